#include "coordinator/response_keeper.h"

#include <stdlib.h>

#include "api/responses.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"

#define EXPIRE_MS 3600000

static void expire(struct net_timer *timer)
{
	struct response_keeper *keeper = LIST_OF(timer, struct response_keeper, timer);
	store_responses_expire(keeper->store, clock_wall_us() - keeper->age_us);
}

void response_keeper_start(struct response_keeper *keeper)
{
	expire(&keeper->timer);
	net_timer_start(keeper->loop, &keeper->timer, EXPIRE_MS, EXPIRE_MS, expire);
}

void response_keeper_stop(struct response_keeper *keeper)
{
	net_timer_stop(&keeper->timer);
}

/* --- keeping --- */

/* Whose answer goes on from which one the record itself says. */
static bool previous_of(struct str record, char out[STORE_ID_SIZE])
{
	static const char *const path[] = {"response", "previous_response_id", NULL};
	struct str raw;
	out[0] = '\0';
	if (json_raw_member(record, path, &raw) != DB_OK || raw.len < 2 || raw.at[0] != '"')
		return true;
	return str_copy(str_sub(raw, 1, raw.len - 2), out, STORE_ID_SIZE);
}

static void on_added(const struct error *error, void *user)
{
	(void)user;
	if (error)
		log_warn("responses.not_kept", "why=\"%s\"", error->text);
}

void response_keeper_add(void *user, struct str account_id, const char *job_id, struct str record)
{
	struct response_keeper *keeper = user;
	struct store_response response = {.created_us = clock_wall_us()};
	struct buf sealed;
	responses_id(job_id, response.id);
	buf_init(&sealed, record.len + RESPONSE_VAULT_EXTRA_BYTES);
	if (!keeper->vault || !str_copy(account_id, response.account_id, sizeof response.account_id) ||
	    !previous_of(record, response.previous) ||
	    response_vault_seal(keeper->vault, account_id, str_of(response.id), record, &sealed) != DB_OK) {
		log_warn("responses.not_kept", "why=\"it cannot be sealed\"");
	} else {
		response.sealed = buf_str(&sealed);
		store_response_add(keeper->store, &response, &keeper->bounds, on_added, NULL);
	}
	buf_free(&sealed);
}

/* --- reading --- */

/* Rows on their way through a worker, which opens them. */
struct reading {
	struct response_keeper *keeper;
	char account[STORE_ID_SIZE], id[STORE_ID_SIZE];
	bool history;
	response_keeper_fn done;
	void *user;
	struct buf text;
	struct error error;
	size_t count;
	struct {
		char id[STORE_ID_SIZE];
		struct buf sealed, plain;
	} * rows; /* newest first */
};

static void end(struct reading *reading)
{
	reading->done(buf_str(&reading->text), reading->error.code ? &reading->error : NULL, reading->user);
	buf_free(&reading->text);
	for (size_t i = 0; i < reading->count; i++) {
		buf_free(&reading->rows[i].sealed);
		buf_free(&reading->rows[i].plain);
	}
	free(reading->rows);
	free(reading);
}

static void on_opened(void *arg)
{
	end(arg);
}

static enum db_err open_rows(struct reading *reading)
{
	const struct response_keeper *keeper = reading->keeper;
	for (size_t i = 0; i < reading->count; i++) {
		enum db_err err = response_vault_open(keeper->vault, str_of(reading->account), str_of(reading->rows[i].id),
		                                      buf_str(&reading->rows[i].sealed), &reading->rows[i].plain);
		if (err)
			return err;
	}
	return DB_OK;
}

/* Worker thread. */
static void open_work(void *arg)
{
	struct reading *reading = arg;
	struct str records[RESPONSES_EARLIER_COUNT];
	enum db_err err = open_rows(reading);
	for (size_t i = 0; i < reading->count; i++)
		records[i] = buf_str(&reading->rows[reading->count - 1 - i].plain);
	if (!err && reading->history)
		err = responses_history(records, reading->count, &reading->text);
	else if (!err)
		err = buf_append_str(&reading->text, records[0]);
	if (err) {
		log_warn("responses.unreadable", "id=%s code=%d", reading->id, (int)err);
		error_set(&reading->error, err == DB_E_NOMEM ? err : DB_E_NOT_FOUND, "The answer cannot be opened any more.");
		buf_clear(&reading->text);
	}
}

static bool take_rows(struct reading *reading, const struct store_response *rows, size_t count)
{
	reading->rows = calloc(count, sizeof *reading->rows);
	if (!reading->rows)
		return false;
	reading->count = count;
	for (size_t i = 0; i < count; i++) {
		memcpy(reading->rows[i].id, rows[i].id, sizeof rows[i].id);
		buf_init(&reading->rows[i].sealed, rows[i].sealed.len);
		buf_init(&reading->rows[i].plain, rows[i].sealed.len);
		if (buf_append_str(&reading->rows[i].sealed, rows[i].sealed) != DB_OK)
			return false;
	}
	return true;
}

static void on_rows(const struct store_response *rows, size_t count, const struct error *error, void *user)
{
	struct reading *reading = user;
	if (error)
		reading->error = *error;
	else if (!take_rows(reading, rows, count))
		error_set(&reading->error, DB_E_NOMEM, "There is no memory for kept answers.");
	if (reading->error.code)
		end(reading);
	else
		net_work(reading->keeper->loop, open_work, on_opened, reading);
}

static void begin_read(struct response_keeper *keeper, struct str account_id, struct str id, uint32_t depth,
                       response_keeper_fn done, void *user)
{
	struct error error;
	struct reading *reading = calloc(1, sizeof *reading);
	if (!reading || !str_copy(account_id, reading->account, sizeof reading->account) ||
	    !str_copy(id, reading->id, sizeof reading->id)) {
		error_set(&error, reading ? DB_E_NOT_FOUND : DB_E_NOMEM, "There is no such answer.");
		free(reading);
		done(STR_NONE, &error, user);
		return;
	}
	reading->keeper = keeper;
	reading->history = depth > 1;
	reading->done = done;
	reading->user = user;
	buf_init(&reading->text, 2 * RESPONSES_RECORD_MAX_BYTES);
	struct store_response_query query = {.account_id = account_id,
	                                     .id = id,
	                                     .since_us = clock_wall_us() - keeper->age_us,
	                                     .depth = depth,
	                                     .max_bytes = depth > 1 ? RESPONSES_EARLIER_MAX : 2 * RESPONSES_RECORD_MAX_BYTES};
	store_response_read(keeper->store, &query, on_rows, reading);
}

void response_keeper_read(struct response_keeper *keeper, struct str account_id, struct str id, response_keeper_fn done,
                          void *user)
{
	begin_read(keeper, account_id, id, 1, done, user);
}

void response_keeper_history(struct response_keeper *keeper, struct str account_id, struct str id, response_keeper_fn done,
                             void *user)
{
	begin_read(keeper, account_id, id, RESPONSES_EARLIER_COUNT, done, user);
}

void response_keeper_delete(struct response_keeper *keeper, struct str account_id, struct str id, store_done_fn done,
                            void *user)
{
	store_response_delete(keeper->store, account_id, id, done, user);
}
