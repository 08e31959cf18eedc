#include "coordinator/state_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static void empty(const char *path)
{
	char name[STATE_PATH_SIZE];
	DIR *dir = opendir(path);
	if (!dir)
		return;
	for (struct dirent *entry; (entry = readdir(dir));) {
		int len = snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		if (len > 0 && (size_t)len < sizeof name && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			(void)unlink(name);
	}
	closedir(dir);
}

static void delete_both(const struct state_folder *folder)
{
	empty(folder->database);
	(void)rmdir(folder->database);
	(void)rmdir(folder->path);
}

enum db_err state_folder_open(struct state_folder *folder, const char *data_dir, struct error *error)
{
	char lock[STATE_PATH_SIZE];
	folder->lock = -1;
	int len = snprintf(folder->database, sizeof folder->database, "%s/state-copy/database", data_dir);
	if (len < 0 || (size_t)len >= sizeof folder->database ||
	    snprintf(folder->path, sizeof folder->path, "%s/state-copy", data_dir) < 0 ||
	    snprintf(lock, sizeof lock, "%s/state-copy.lock", data_dir) < 0)
		return error_set(error, DB_E_LIMIT, "The path of the data folder is too long.");
	folder->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (folder->lock < 0)
		return error_set(error, DB_E_IO, "%s cannot be made: %s.", lock, strerror(errno));
	enum db_err err = DB_OK;
	if (flock(folder->lock, LOCK_EX | LOCK_NB) != 0)
		err = error_set(error, DB_E_EXISTS, "The state of %s is being exported or imported already.", data_dir);
	if (!err) {
		delete_both(folder);
		if (mkdir(folder->path, 0700) != 0)
			err = error_set(error, DB_E_IO, "%s cannot be made: %s.", folder->path, strerror(errno));
	}
	if (err) {
		close(folder->lock);
		folder->lock = -1;
	}
	return err;
}

void state_folder_close(struct state_folder *folder)
{
	if (folder->lock < 0)
		return;
	delete_both(folder);
	close(folder->lock);
	folder->lock = -1;
}
