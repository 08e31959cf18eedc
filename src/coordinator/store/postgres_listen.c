#include "coordinator/store/postgres_listen.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRY_AGAIN_MS 1000

struct postgres_listener {
	char *address;
	PGconn *conn;
	int stop[2];
	bool has_missed; /* what was told while there was no connection */
	postgres_news_fn tell;
	void *user;
};

struct postgres_listener *postgres_listener_new(const char *address, postgres_news_fn tell, void *user, struct error *error)
{
	struct postgres_listener *listener = calloc(1, sizeof *listener);
	if (listener && (listener->address = strdup(address)) && pipe(listener->stop) == 0) {
		fcntl(listener->stop[0], F_SETFD, FD_CLOEXEC);
		fcntl(listener->stop[1], F_SETFD, FD_CLOEXEC);
		listener->tell = tell;
		listener->user = user;
		listener->has_missed = true; /* whatever happens until it listens for the first time */
		return listener;
	}
	if (listener)
		free(listener->address);
	free(listener);
	error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
	return NULL;
}

void postgres_listener_free(struct postgres_listener *listener)
{
	if (!listener)
		return;
	close(listener->stop[0]);
	close(listener->stop[1]);
	free(listener->address);
	free(listener);
}

void postgres_listener_stop(struct postgres_listener *listener)
{
	while (write(listener->stop[1], "s", 1) < 0)
		;
}

bool postgres_news_read(struct str text, struct postgres_news *out)
{
	struct str number, kind;
	text = str_cut(text, ':', &number);
	out->account_id = str_cut(text, ':', &kind);
	out->question = 0;
	if (!str_to_u64(number, &out->instance) || out->account_id.len == 0 || out->account_id.len >= STORE_ID_SIZE)
		return false;
	if (str_is(kind, "b"))
		out->news = STORE_NEWS_BALANCE;
	else if (str_is(kind, "g"))
		out->news = STORE_NEWS_GIVEN;
	else if (str_is(kind, "s"))
		out->news = STORE_NEWS_SHARES;
	else if (kind.len > 1 && kind.at[0] == 'w' && str_to_u64(str_sub(kind, 1, kind.len - 1), &out->question))
		out->news = STORE_NEWS_WANTED;
	else
		return false;
	return true;
}

/* Waits for the socket, the stop or the time. True when it is to stop. */
static bool wait_for(struct postgres_listener *listener, int socket, int ms)
{
	struct pollfd ends[2] = {{listener->stop[0], POLLIN, 0}, {socket, POLLIN, 0}};
	(void)poll(ends, socket >= 0 ? 2 : 1, ms);
	return ends[0].revents != 0;
}

static bool begin(struct postgres_listener *listener)
{
	static const char *const keys[] = {"application_name", "connect_timeout",  "keepalives_idle", "keepalives_interval",
	                                   "keepalives_count", "tcp_user_timeout", "dbname",          NULL};
	const char *const values[] = {"darkbloom-news", "5", "10", "5", "3", "15000", listener->address, NULL};
	listener->conn = PQconnectdbParams(keys, values, 1);
	if (PQstatus(listener->conn) != CONNECTION_OK)
		return false;
	PGresult *result = PQexec(listener->conn, "LISTEN darkbloom");
	bool listens = PQresultStatus(result) == PGRES_COMMAND_OK;
	PQclear(result);
	if (listens && listener->has_missed)
		listener->tell(&(struct postgres_news){.news = STORE_NEWS_MISSED}, listener->user);
	return listens;
}

static void tell_all(struct postgres_listener *listener)
{
	PGnotify *note;
	while ((note = PQnotifies(listener->conn))) {
		struct postgres_news news;
		if (postgres_news_read(str_of(note->extra), &news))
			listener->tell(&news, listener->user);
		PQfreemem(note);
	}
}

void postgres_listener_run(struct postgres_listener *listener)
{
	bool stopped = false;
	while (!stopped) {
		bool listens = begin(listener);
		tell_all(listener); /* what came with the answer */
		while (listens && !(stopped = wait_for(listener, PQsocket(listener->conn), -1))) {
			listens = PQconsumeInput(listener->conn) == 1;
			tell_all(listener);
		}
		PQfinish(listener->conn);
		listener->has_missed = true;
		stopped = stopped || wait_for(listener, -1, TRY_AGAIN_MS);
	}
}
