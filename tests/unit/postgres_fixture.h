/* A PostgreSQL server of the test program's own (tests/postgres.sh), started when it is first asked for, gone with the program.
 */
#ifndef TESTS_UNIT_POSTGRES_FIXTURE_H
#define TESTS_UNIT_POSTGRES_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coordinator/store/sql.h"
#include "coordinator/store/store.h"

struct postgres_fixture {
	pid_t pid;
	int words; /* what the script reads */
	FILE *answers;
	char address[512];
	unsigned databases;
};

static struct postgres_fixture postgres_fixture;

static inline void postgres_answer(const char *wanted, char *rest, size_t size)
{
	char line[400] = "";
	if (!fgets(line, sizeof line, postgres_fixture.answers) || strncmp(line, wanted, strlen(wanted)) != 0)
		fail_msg("PostgreSQL's script said '%s' instead of '%s'", line, wanted);
	if (rest) {
		line[strcspn(line, "\n")] = '\0';
		snprintf(rest, size, "%s", line + strlen(wanted) + 1);
	}
}

static inline void postgres_word(const char *word)
{
	assert_int_equal(write(postgres_fixture.words, word, strlen(word)), strlen(word));
}

static inline void postgres_start(void)
{
	int in[2], out[2];
	if (postgres_fixture.pid)
		return;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	fcntl(in[1], F_SETFD, FD_CLOEXEC); /* only this process keeps the server alive */
	postgres_fixture.pid = fork();
	assert_true(postgres_fixture.pid >= 0);
	if (postgres_fixture.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[0]);
		close(out[0]);
		close(out[1]);
		execl(TEST_SOURCE_DIR "/tests/postgres.sh", "postgres.sh", "--no-fsync", (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	postgres_fixture.words = in[1];
	postgres_fixture.answers = fdopen(out[0], "r");
	postgres_answer("ready", postgres_fixture.address, sizeof postgres_fixture.address);
}

static inline void postgres_crash(void)
{
	postgres_word("crash\n");
	postgres_answer("crashed", NULL, 0);
}

static inline void postgres_restart(void)
{
	postgres_word("start\n");
	postgres_answer("ready", NULL, 0);
}

static inline struct sql *postgres_sql(const char *address)
{
	struct error error = {0};
	struct sql *db = sql_open(address, SQL_WRITE, &error);
	if (!db)
		fail_msg("%s", error.text);
	return db;
}

static inline void postgres_exec(const char *address, const char *text)
{
	struct sql *db = postgres_sql(address);
	if (!sql_exec(db, text))
		fail_msg("%s: %s", text, db->why.text);
	sql_close(db);
}

static inline int64_t postgres_number(const char *address, const char *text)
{
	struct sql *db = postgres_sql(address);
	int64_t number = sql_number(sql_say(db, text));
	if (db->failed)
		fail_msg("%s: %s", text, db->why.text);
	sql_close(db);
	return number;
}

/* An empty database of one's own: a schema in the server's, gone with the server. (Databases of their own would cost a
 * checkpoint each.) */
static inline void postgres_database(char *address, size_t size)
{
	char text[80];
	postgres_start();
	snprintf(text, sizeof text, "CREATE SCHEMA s%u", ++postgres_fixture.databases);
	postgres_exec(postgres_fixture.address, text);
	snprintf(address, size, "%s&options=-csearch_path%%3Ds%u", postgres_fixture.address, postgres_fixture.databases);
}

#endif
