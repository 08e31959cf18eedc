/* Any bytes as a backup's manifest.json: what is read names files inside the folder only, and is written and read alike. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/store/backup_manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];

static void leave(void)
{
	char path[128];
	snprintf(path, sizeof path, "%s/manifest.json", folder);
	unlink(path);
	rmdir(folder);
}

static void check(bool good)
{
	if (!good)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct manifest read, again;
	char path[128];
	struct error error;
	if (!folder[0]) {
		snprintf(folder, sizeof folder, "%s", "/dev/shm/db_manifest_XXXXXX");
		check(mkdtemp(folder) != NULL);
		atexit(leave);
	}
	snprintf(path, sizeof path, "%s/manifest.json", folder);
	FILE *file = fopen(path, "w");
	check(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
	if (backup_manifest_read(&read, folder, &error)) {
		check(strlen(error.text) > 0);
		return 0;
	}
	check(read.count <= MANIFEST_FILES_MAX);
	for (size_t i = 0; i < read.count; i++) {
		check(read.files[i].name[0] && !strchr(read.files[i].name, '/') && strcmp(read.files[i].name, "..") != 0);
		check(strlen(read.files[i].sha256) == 64 && read.files[i].bytes >= 0);
	}
	(void)backup_manifest_check(&read, folder, &error);
	unlink(path);
	check(backup_manifest_write(&read, folder, &error) == DB_OK && backup_manifest_read(&again, folder, &error) == DB_OK);
	check(again.count == read.count && again.schema_version == read.schema_version &&
	      again.created_us / 1000000 == read.created_us / 1000000);
	return 0;
}
