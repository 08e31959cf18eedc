/* Model folders on disk: their names, their manifests, putting them in place. Internal to models/. Blocks. */
#ifndef PROVIDER_MODEL_FOLDER_H
#define PROVIDER_MODEL_FOLDER_H

#include "provider/models/manifest.h"
#include "provider/models/models.h"

/* <dir>/<id with '/' as "--">. DB_E_INVALID for an id that is not one. Different ids give different folders. */
enum db_err folder_path(const char *dir, struct str id, char out[MODEL_PATH_SIZE], struct error *error);
enum db_err folder_make(const char *path, struct error *error); /* with its parents */
void folder_remove(const char *path);                           /* with everything in it; links are not followed */

enum db_err folder_read_manifest(const char *folder, struct arena *arena, struct manifest *out, struct error *error);
enum db_err folder_write_manifest(const char *folder, const struct manifest *manifest, struct error *error);
/* DB_E_INVALID when its manifest is damaged, is another model's than the folder's name says, or names no GGUF file. */
enum db_err folder_describe(const char *folder, struct model_entry *out, struct error *error);
/* Renames a finished folder of the same file system to its place; what was there before is removed. */
enum db_err folder_publish(const char *staging, const char *folder, struct error *error);

struct hash_progress {
	uint64_t done, total;
	models_progress show; /* may be NULL */
	void *user;
};
/* Content hash and size of a file; DB_E_CLOSED when `show` said stop. */
enum db_err folder_hash_file(const char *path, struct hash_progress *progress, char out[SHA256_HEX_SIZE], uint64_t *size,
                             struct error *error);

#endif
