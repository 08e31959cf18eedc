/* manifest.json of a backup. Inside store/ only. */
#ifndef COORDINATOR_STORE_BACKUP_MANIFEST_H
#define COORDINATOR_STORE_BACKUP_MANIFEST_H

#include "coordinator/store/store_backup.h"

#define MANIFEST_FILES_MAX 128
#define MANIFEST_PATH_SIZE 4096

struct manifest {
	bool is_postgres;
	int schema_version;
	int64_t created_us;
	size_t count;
	struct {
		char name[80];
		int64_t bytes;
		char sha256[65];
	} files[MANIFEST_FILES_MAX];
};

/* The path of a file in a folder; DB_E_LIMIT when it is too long. */
enum db_err backup_manifest_path(const char *folder, const char *name, char out[MANIFEST_PATH_SIZE], struct error *error);
/* Notes a file of the folder that is complete: its size and hash. */
enum db_err backup_manifest_add(struct manifest *manifest, const char *folder, const char *name, struct error *error);
enum db_err backup_manifest_write(const struct manifest *manifest, const char *folder, struct error *error);
enum db_err backup_manifest_read(struct manifest *manifest, const char *folder, struct error *error);
/* Every file is there and is what the manifest says. DB_E_CRYPTO names the one that is not. */
enum db_err backup_manifest_check(const struct manifest *manifest, const char *folder, struct error *error);

#endif
