/* Any bytes as the archive inside a state export: nothing is written but what the manifest names, inside the folder. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/state_import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];

static void leave(void)
{
	char path[128];
	snprintf(path, sizeof path, "%s/state-copy.lock", folder);
	unlink(path);
	rmdir(folder);
}

static void check(bool good)
{
	if (!good)
		abort();
}

static size_t files_in_folder(void)
{
	size_t count = 0;
	DIR *dir = opendir(folder);
	check(dir != NULL);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error error = {0};
	if (!folder[0]) {
		snprintf(folder, sizeof folder, "%s", "/dev/shm/db_state_XXXXXX");
		check(mkdtemp(folder) != NULL);
		atexit(leave);
	}
	if (size == 0)
		return 0;
	struct state_import *import = state_import_new(folder, &error);
	check(import != NULL);
	struct str all = {(const char *)data + 1, size - 1};
	enum db_err err = DB_OK;
	for (size_t at = 0, step = 1 + data[0]; !err && at < all.len; at += step)
		err = state_import_read(import, str_sub(all, at, step), &error);
	if (!err)
		err = state_import_check(import, &error);
	check(!err || error.text[0]);
	check(files_in_folder() == 4); /* itself, the one above, the lock and the copy's folder */
	state_import_free(import);
	check(files_in_folder() == 3);
	return 0;
}
