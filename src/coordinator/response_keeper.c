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

static void hand_over(struct response_keeper *keeper, struct store_response *response, const struct buf *sealed,
                      enum db_err err)
{
	if (err) {
		log_warn("responses.not_kept", "why=\"it cannot be sealed\"");
		return;
	}
	response->sealed = buf_str(sealed);
	store_response_add(keeper->store, response, &keeper->bounds, on_added, NULL);
}

/* A record on its way through a worker. */
struct sealing {
	struct response_keeper *keeper; /* NULL: it has stopped, and done this itself */
	const struct response_vault *vault;
	struct list_link link;
	struct store_response response;
	struct buf record, sealed;
	enum db_err err;
};

static enum db_err seal(const struct response_vault *vault, const struct store_response *response, const struct buf *record,
                        struct buf *sealed)
{
	buf_init(sealed, record->len + RESPONSE_VAULT_EXTRA_BYTES);
	return response_vault_seal(vault, str_of(response->account_id), str_of(response->id), buf_str(record), sealed);
}

/* Worker thread. */
static void seal_work(void *arg)
{
	struct sealing *sealing = arg;
	sealing->err = seal(sealing->vault, &sealing->response, &sealing->record, &sealing->sealed);
}

static void sealing_free(struct sealing *sealing)
{
	buf_free(&sealing->record);
	buf_free(&sealing->sealed);
	free(sealing);
}

static void let_go(struct response_keeper *keeper);

static void on_sealed(void *arg)
{
	struct sealing *sealing = arg;
	struct response_keeper *keeper = sealing->keeper;
	if (keeper) {
		list_remove(&keeper->sealing, &sealing->link);
		hand_over(keeper, &sealing->response, &sealing->sealed, sealing->err);
		let_go(keeper);
	}
	sealing_free(sealing);
}

static bool seal_elsewhere(struct response_keeper *keeper, const struct store_response *response, struct buf *record)
{
	struct sealing *sealing = record->len > RESPONSE_KEEPER_SEALS_HERE ? calloc(1, sizeof *sealing) : NULL;
	if (!sealing)
		return false;
	sealing->keeper = keeper;
	sealing->vault = keeper->vault;
	sealing->response = *response;
	sealing->record = *record;
	buf_init(record, record->max);
	list_push_back(&keeper->sealing, &sealing->link);
	net_work(keeper->loop, seal_work, on_sealed, sealing);
	return true;
}

void response_keeper_add(void *user, struct str account_id, const char *job_id, struct buf *record)
{
	struct response_keeper *keeper = user;
	struct store_response response = {.created_us = clock_wall_us()};
	struct buf sealed;
	responses_id(job_id, response.id);
	if (!keeper->vault || !str_copy(account_id, response.account_id, sizeof response.account_id) ||
	    !previous_of(buf_str(record), response.previous)) {
		log_warn("responses.not_kept", "why=\"it cannot be sealed\"");
		return;
	}
	if (seal_elsewhere(keeper, &response, record))
		return;
	enum db_err err = seal(keeper->vault, &response, record, &sealed);
	hand_over(keeper, &response, &sealed, err);
	buf_free(&sealed);
}

static bool is_sealing(const struct response_keeper *keeper, const char *account)
{
	LIST_EACH (link, &keeper->sealing)
		if (strcmp(LIST_OF(link, struct sealing, link)->response.account_id, account) == 0)
			return true;
	return false;
}

/* --- reading --- */

/* Rows on their way through a worker, which opens them. */
struct reading {
	struct list_link link; /* in keeper->held */
	struct response_keeper *keeper;
	char account[STORE_ID_SIZE], id[STORE_ID_SIZE];
	bool history, deletes;
	response_keeper_fn done;
	store_done_fn deleted;
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

static void ask(struct reading *reading)
{
	struct response_keeper *keeper = reading->keeper;
	if (reading->deletes) {
		store_response_delete(keeper->store, str_of(reading->account), str_of(reading->id), reading->deleted, reading->user);
		free(reading);
		return;
	}
	struct store_response_query query = {.account_id = str_of(reading->account),
	                                     .id = str_of(reading->id),
	                                     .since_us = clock_wall_us() - keeper->age_us,
	                                     .depth = reading->history ? RESPONSES_EARLIER_COUNT : 1,
	                                     .max_bytes =
	                                         reading->history ? RESPONSES_EARLIER_MAX : 2 * RESPONSES_RECORD_MAX_BYTES};
	store_response_read(keeper->store, &query, on_rows, reading);
}

static void ask_or_hold(struct reading *reading)
{
	struct response_keeper *keeper = reading->keeper;
	if (is_sealing(keeper, reading->account))
		list_push_back(&keeper->held, &reading->link);
	else
		ask(reading);
}

/* Asks what was held back for a record that is with the store now. */
static void let_go(struct response_keeper *keeper)
{
	LIST_EACH_SAFE (link, next, &keeper->held) {
		struct reading *reading = LIST_OF(link, struct reading, link);
		if (is_sealing(keeper, reading->account))
			continue;
		list_remove(&keeper->held, link);
		ask(reading);
	}
}

static struct reading *reading_new(struct response_keeper *keeper, struct str account_id, struct str id, void *user,
                                   struct error *error)
{
	struct reading *reading = calloc(1, sizeof *reading);
	if (!reading || !str_copy(account_id, reading->account, sizeof reading->account) ||
	    !str_copy(id, reading->id, sizeof reading->id)) {
		error_set(error, reading ? DB_E_NOT_FOUND : DB_E_NOMEM, "There is no such answer.");
		free(reading);
		return NULL;
	}
	reading->keeper = keeper;
	reading->user = user;
	return reading;
}

static void begin_read(struct response_keeper *keeper, struct str account_id, struct str id, bool history,
                       response_keeper_fn done, void *user)
{
	struct error error;
	struct reading *reading = reading_new(keeper, account_id, id, user, &error);
	if (!reading) {
		done(STR_NONE, &error, user);
		return;
	}
	reading->history = history;
	reading->done = done;
	buf_init(&reading->text, 2 * RESPONSES_RECORD_MAX_BYTES);
	ask_or_hold(reading);
}

void response_keeper_read(struct response_keeper *keeper, struct str account_id, struct str id, response_keeper_fn done,
                          void *user)
{
	begin_read(keeper, account_id, id, false, done, user);
}

void response_keeper_history(struct response_keeper *keeper, struct str account_id, struct str id, response_keeper_fn done,
                             void *user)
{
	begin_read(keeper, account_id, id, true, done, user);
}

void response_keeper_delete(struct response_keeper *keeper, struct str account_id, struct str id, store_done_fn done,
                            void *user)
{
	struct error error;
	struct reading *reading = reading_new(keeper, account_id, id, user, &error);
	if (!reading) {
		done(&error, user);
		return;
	}
	reading->deletes = true;
	reading->deleted = done;
	ask_or_hold(reading);
}

/* --- beginning and end --- */

void response_keeper_start(struct response_keeper *keeper)
{
	list_init(&keeper->sealing);
	list_init(&keeper->held);
	expire(&keeper->timer);
	net_timer_start(keeper->loop, &keeper->timer, EXPIRE_MS, EXPIRE_MS, expire);
}

/* The workers still read the records: what they make of them is thrown away. */
void response_keeper_stop(struct response_keeper *keeper)
{
	struct list_link *link;
	net_timer_stop(&keeper->timer);
	if (!keeper->sealing.head.next)
		return; /* never started */
	while ((link = list_pop_front(&keeper->sealing))) {
		struct sealing *sealing = LIST_OF(link, struct sealing, link);
		struct buf sealed;
		enum db_err err = seal(sealing->vault, &sealing->response, &sealing->record, &sealed);
		hand_over(keeper, &sealing->response, &sealed, err);
		sealing->keeper = NULL;
		buf_free(&sealed);
	}
	let_go(keeper);
}
