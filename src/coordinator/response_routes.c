/* /v1/responses where answers are kept: what a request goes on from is read before it is parsed, and kept answers are shown and
 * forgotten (http-api 2.9; the public API's reference). */
#include "api/responses.h"
#include "coordinator/server.h"
#include "coordinator/task.h"
#include "net/form.h"

#define PAGE_DEFAULT 20
#define PAGE_MAX     100

static struct response_keeper *keeper_of(const struct server *server)
{
	struct response_keeper *keeper = server_rooms(server)->keeper;
	return keeper && keeper->vault ? keeper : NULL;
}

static struct str account_of(const struct exchange *exchange)
{
	return str_of(ledger_account_id(exchange->caller.account));
}

/* --- asking --- */

static void infer(struct server *server, struct exchange *exchange, struct str earlier)
{
	struct responses_keeping *keeping = arena_alloc(http_arena(exchange->http), sizeof *keeping);
	if (!keeping) {
		task_refuse(exchange, 503, "service_unavailable", "The request needs more memory than there is: try again.", 2);
		return;
	}
	keeping->earlier = earlier;
	exchange->dialect_input = keeping;
	gateway_infer(server_rooms(server)->gateway, exchange, exchange->dialect);
}

static void refuse_previous(struct exchange *exchange, enum db_err code)
{
	struct api_error error;
	const char *why = code == DB_E_NOT_FOUND ? "previous_response_id names no answer that is kept for this account."
	                  : code == DB_E_CLOSED
	                      ? "An earlier answer of this conversation was deleted or is too old: send its items in "
	                        "input."
	                  : code == DB_E_LIMIT ? "The conversation before this request is too long: send what matters in input."
	                                       : NULL;
	api_fail(&error, why ? 400 : 503, why ? "invalid_request_error" : "service_unavailable",
	         why ? "previous_response_not_found" : NULL, why ? "previous_response_id" : NULL, "%s",
	         why ? why : "Kept answers cannot be read at the moment: try again.");
	error.retry_after_s = why ? 0 : 2;
	exchange_error(exchange, &error);
}

static void on_history(struct str text, const struct error *error, void *user)
{
	struct task *task = user;
	struct server *server = task->server;
	struct exchange *exchange = task_end(task);
	task_free(task);
	if (!exchange)
		return;
	struct str earlier = error ? STR_NONE : arena_str(http_arena(exchange->http), text);
	if (earlier.len > 0)
		infer(server, exchange, earlier);
	else
		refuse_previous(exchange, error ? error->code : DB_E_NOMEM);
}

void handle_responses(struct server *server, struct exchange *exchange)
{
	struct response_keeper *keeper = keeper_of(server);
	struct str previous;
	if (!keeper) {
		gateway_infer(server_rooms(server)->gateway, exchange, exchange->dialect);
		return;
	}
	responses_previous(exchange_body(exchange), http_arena(exchange->http), &previous);
	if (previous.len == 0) {
		infer(server, exchange, STR_NONE);
		return;
	}
	struct task *task = task_new(server, exchange, sizeof *task);
	if (task)
		response_keeper_history(keeper, account_of(exchange), previous, on_history, task);
}

/* --- what is kept --- */

struct view {
	struct task task;
	bool items;
	struct responses_page page; /* `after` lives in the exchange's arena */
};

static void refuse_kept(struct exchange *exchange, enum db_err code)
{
	if (code == DB_E_NOT_FOUND)
		task_refuse(exchange, 404, "invalid_request_error", "There is no such answer among those kept for this account.", 0);
	else
		task_refuse(exchange, 503, "service_unavailable", "Kept answers cannot be read at the moment: try again.", 2);
}

static void refuse_param(struct exchange *exchange, const char *param, const char *message)
{
	struct api_error error;
	api_fail(&error, 400, "invalid_request_error", NULL, param, "%s", message);
	exchange_error(exchange, &error);
}

static void on_record(struct str record, const struct error *error, void *user)
{
	struct view *view = user;
	struct exchange *exchange = task_end(view);
	struct buf body;
	buf_init(&body, 2 * RESPONSES_RECORD_MAX_BYTES);
	if (exchange && error) {
		refuse_kept(exchange, error->code);
	} else if (exchange) {
		enum db_err err =
		    view->items ? responses_record_items(record, &view->page, &body) : responses_record_object(record, &body);
		if (err == DB_E_NOT_FOUND)
			refuse_param(exchange, "after", "after must be the id of an item of this answer's input.");
		else if (err)
			refuse_kept(exchange, err);
		else
			task_answer_private(exchange, 200, &body);
	}
	buf_free(&body);
	task_free(view);
}

static void show(struct server *server, struct exchange *exchange, const struct responses_page *page)
{
	struct response_keeper *keeper = keeper_of(server);
	if (!keeper) {
		refuse_kept(exchange, DB_E_NOT_FOUND);
		return;
	}
	struct view *view = task_new(server, exchange, sizeof *view);
	if (!view)
		return;
	view->items = page != NULL;
	if (page)
		view->page = *page;
	response_keeper_read(keeper, account_of(exchange), route_part(exchange->route, http_path(exchange->http), 0), on_record,
	                     view);
}

void handle_response(struct server *server, struct exchange *exchange)
{
	struct str stream;
	if (form_get(http_query(exchange->http), "stream", http_arena(exchange->http), &stream) == DB_OK && str_is(stream, "true"))
		refuse_param(exchange, "stream", "A kept answer is given whole: leave stream out.");
	else
		show(server, exchange, NULL);
}

/* False when it is there and wrong. */
static bool read_limit(struct str text, uint32_t *limit)
{
	uint32_t value = 0;
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] < '0' || text.at[i] > '9' || i == 3)
			return false;
		value = 10 * value + (uint32_t)(text.at[i] - '0');
	}
	*limit = value;
	return value >= 1 && value <= PAGE_MAX;
}

/* The name of the parameter that is wrong, or NULL. */
static const char *read_page(struct exchange *exchange, struct responses_page *page)
{
	struct arena *arena = http_arena(exchange->http);
	struct str query = http_query(exchange->http), text;
	*page = (struct responses_page){.limit = PAGE_DEFAULT};
	enum db_err err = form_get(query, "limit", arena, &text);
	if (err != DB_E_NOT_FOUND && (err || !read_limit(text, &page->limit)))
		return "limit";
	err = form_get(query, "order", arena, &text);
	if (err != DB_E_NOT_FOUND && (err || (!str_is(text, "asc") && !str_is(text, "desc"))))
		return "order";
	page->ascending = !err && str_is(text, "asc");
	err = form_get(query, "after", arena, &text);
	if (err != DB_E_NOT_FOUND && (err || text.len == 0))
		return "after";
	page->after = err ? STR_NONE : text;
	return NULL;
}

void handle_response_items(struct server *server, struct exchange *exchange)
{
	struct responses_page page;
	const char *wrong = read_page(exchange, &page);
	if (wrong)
		refuse_param(exchange, wrong, "limit must be 1 to 100, order asc or desc, and after the id of an item.");
	else
		show(server, exchange, &page);
}

/* --- forgetting --- */

struct deletion {
	struct task task;
	char id[STORE_ID_SIZE];
};

static void on_deleted(const struct error *error, void *user)
{
	struct deletion *deletion = user;
	struct exchange *exchange = task_end(deletion);
	struct buf body;
	struct json_writer w;
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "id", deletion->id);
	json_put_str(&w, "object", STR("response"));
	json_put_bool(&w, "deleted", true);
	json_end_object(&w);
	if (exchange && error)
		refuse_kept(exchange, error->code);
	else if (exchange)
		task_answer_private(exchange, 200, &body);
	buf_free(&body);
	task_free(deletion);
}

/* Also where nothing new is kept any more: what was kept before can still be forgotten. */
void handle_response_delete(struct server *server, struct exchange *exchange)
{
	struct response_keeper *keeper = server_rooms(server)->keeper;
	struct str id = route_part(exchange->route, http_path(exchange->http), 0);
	struct deletion *deletion = task_new(server, exchange, sizeof *deletion);
	if (!deletion)
		return;
	if (str_copy(id, deletion->id, sizeof deletion->id)) {
		response_keeper_delete(keeper, account_of(exchange), id, on_deleted, deletion);
		return;
	}
	exchange = task_end(deletion);
	task_free(deletion);
	refuse_kept(exchange, DB_E_NOT_FOUND);
}
