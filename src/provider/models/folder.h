/* What the files of models/ share about model folders. Internal to models/. */
#ifndef PROVIDER_MODEL_FOLDER_H
#define PROVIDER_MODEL_FOLDER_H

#include <limits.h>

#include "provider/models/manifest.h"
#include "provider/models/models.h"

/* <dir>/<id with '/' as "--">. DB_E_INVALID for an id that is not one. */
enum db_err model_folder(const char *dir, struct str id, char out[MODEL_PATH_SIZE], struct error *error);
enum db_err make_folders(const char *path, struct error *error);
enum db_err read_manifest(const char *folder, struct arena *arena, struct manifest *out, struct error *error);
enum db_err write_manifest(const char *folder, const struct manifest *manifest, struct error *error);
enum db_err describe_folder(const char *folder, struct model_entry *out, struct error *error);

struct hash_progress {
	uint64_t done, total;
	models_progress show; /* may be NULL */
	void *user;
};
/* Content hash and size of a file; DB_E_CLOSED when `show` said stop. */
enum db_err hash_model_file(const char *path, struct hash_progress *progress, char out[SHA256_HEX_SIZE], uint64_t *size,
                            struct error *error);

#endif
