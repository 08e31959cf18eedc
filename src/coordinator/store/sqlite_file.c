#include "coordinator/store/sqlite_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "coordinator/store/sqlite_db.h"

int sqlite_file_lock(const char *path, struct error *error)
{
	char lock_path[4096];
	int len = snprintf(lock_path, sizeof lock_path, "%s.lock", path);
	if (len < 0 || (size_t)len >= sizeof lock_path) {
		error_set(error, DB_E_INVALID, "The path of the database is too long.");
		return -1;
	}
	int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		error_set(error, DB_E_IO,
		          "%s cannot be made: %s. Check that the folder exists and belongs to the user the coordinator runs as.",
		          lock_path, strerror(errno));
		return -1;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	error_set(error, DB_E_EXISTS, "The database %s is in use by another coordinator. Stop that one first.", path);
	close(fd);
	return -1;
}

enum db_err sqlite_file_make(const char *path, struct error *error)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(error, DB_E_IO, "The database %s cannot be opened for writing: %s. Check the file and its folder.",
		                 path, strerror(errno));
	close(fd);
	return DB_OK;
}

static int note_log_pages(void *arg, sqlite3 *handle, const char *schema, int pages)
{
	(void)handle, (void)schema;
	*(int *)arg = pages;
	return SQLITE_OK;
}

void sqlite_file_count_log(struct sql *db, int *pages)
{
	sqlite3_wal_hook(sqlite_handle(db), note_log_pages, pages);
}

enum db_err sqlite_file_move_log(struct sql *db, int *pages, struct error *error)
{
	int all = 0, moved = 0;
	/* Busy is no failure: a reader is in the middle of the log, and there will be a next time. */
	int rc = sqlite3_wal_checkpoint_v2(sqlite_handle(db), "main", SQLITE_CHECKPOINT_PASSIVE, &all, &moved);
	if (rc == SQLITE_OK)
		*pages = all - moved;
	else if ((rc & 0xff) != SQLITE_BUSY)
		return sqlite_error(sqlite_handle(db), error);
	return DB_OK;
}

struct sqlite_mover {
	struct sql *db;
	bool failed; /* to move, or to sync what it moved: it moves nothing any more */
};

struct sqlite_mover *sqlite_mover_open(const char *path, struct error *error)
{
	struct sqlite_mover *mover = calloc(1, sizeof *mover);
	if (!mover) {
		error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
		return NULL;
	}
	mover->db = sqlite_db_open(path, SQL_WRITE, error);
	if (mover->db)
		return mover;
	free(mover);
	return NULL;
}

void sqlite_mover_close(struct sqlite_mover *mover)
{
	if (!mover)
		return;
	sql_close(mover->db);
	free(mover);
}

/* SQLite syncs the file only when it moved the last page of the log, which under load the writer does: it would wait for all
 * that the mover wrote. */
static bool sync_file(struct sql *db)
{
	sqlite3_file *file = NULL;
	if (sqlite3_file_control(sqlite_handle(db), "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK || !file ||
	    !file->pMethods)
		return true;
	return file->pMethods->xSync(file, SQLITE_SYNC_NORMAL) == SQLITE_OK;
}

/* A failure is the writer's to find: it does the rest of the same work, and a system that could not keep what was written tells
 * everybody who has the file open, but once. Whoever was told must move no more: the next sync would say that all is well. The
 * second time moves what was written during the first. */
bool sqlite_mover_move(struct sqlite_mover *mover, bool to_end)
{
	int pages;
	for (int i = 0; i < (to_end ? 2 : 1) && !mover->failed; i++)
		mover->failed = sqlite_file_move_log(mover->db, &pages, NULL) != DB_OK || !sync_file(mover->db);
	return !mover->failed;
}
