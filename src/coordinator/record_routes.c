/* GET /v1/admin/routes, /v1/admin/routes/summary and /v1/admin/routes/{id}: why requests went where they went
 * (gateway/record.h). */
#include "coordinator/server.h"

#include "coordinator/gateway/record.h"
#include "coordinator/record_keeper.h"
#include "coordinator/task.h"
#include "core/uri.h"

#define LISTED_MAX     1000
#define LISTED_DEFAULT 50
#define BODY_MAX       (8u << 20)

static const struct records *records_of(const struct server *server)
{
	return gateway_records(server_rooms(server)->gateway);
}

/* Absent is fine. */
static bool read_limit(const struct exchange *exchange, uint64_t *limit)
{
	char text[16];
	enum db_err err = uri_query(http_query(exchange->http), "limit", text, sizeof text);
	*limit = LISTED_DEFAULT;
	return err == DB_E_NOT_FOUND || (!err && str_to_u64(str_of(text), limit) && *limit >= 1 && *limit <= LISTED_MAX);
}

void handle_admin_routes(struct server *server, struct exchange *exchange)
{
	const struct records *records = records_of(server);
	char outcome[RECORD_OUTCOME_SIZE] = "", model[ROUTE_MODEL_SIZE] = "";
	struct str query = http_query(exchange->http);
	uint64_t limit, shown = 0;
	struct buf body;
	struct json_writer w;
	if (!read_limit(exchange, &limit)) {
		task_refuse(exchange, 400, "bad_request", "limit must be a whole number from 1 to 1000.", 0);
		return;
	}
	(void)uri_query(query, "outcome", outcome, sizeof outcome);
	(void)uri_query(query, "model", model, sizeof model);
	buf_init(&body, BODY_MAX);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "routes");
	json_begin_array(&w);
	const struct record *record;
	for (size_t n = 0; shown < limit && (record = records_at(records, n)); n++) {
		bool wanted = (!outcome[0] || strcmp(outcome, record->outcome) == 0 || strcmp(outcome, record->reason) == 0) &&
		              (!model[0] || strcmp(model, record->model) == 0 || strcmp(model, record->public_model) == 0);
		if (wanted)
			record_write(record, &w);
		shown += wanted;
	}
	json_end_array(&w);
	json_put_i64(&w, "kept", (int64_t)records->count);
	json_put_i64(&w, "dropped", (int64_t)records->dropped);
	json_end_object(&w);
	task_answer(exchange, 200, &body);
}

void handle_admin_routes_summary(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, BODY_MAX);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "models");
	record_sum_write(records_of(server)->sum, &w);
	json_end_object(&w);
	task_answer(exchange, 200, &body);
}

/* --- one of them --- */

static void answer_with(struct exchange *exchange, const struct record *record)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, BODY_MAX);
	json_writer_init(&w, &body);
	record_write_explained(record, &w);
	task_answer(exchange, 200, &body);
}

static void refuse_unknown(struct exchange *exchange)
{
	task_refuse(exchange, 404, "not_found", "There is no record of this request: it is unknown, or too long ago.", 0);
}

struct lookup {
	struct task task;
	const char *dir;
	char id[ID_UUID_SIZE];
	enum db_err err;
	struct record record;
};

static void look(void *arg)
{
	struct lookup *lookup = arg;
	lookup->err = record_log_find(lookup->dir, str_of(lookup->id), &lookup->record);
}

static void looked(void *arg)
{
	struct lookup *lookup = arg;
	struct exchange *exchange = task_end(lookup);
	if (exchange && !lookup->err)
		answer_with(exchange, &lookup->record);
	else if (exchange)
		refuse_unknown(exchange);
	task_free(lookup);
}

void handle_admin_route(struct server *server, struct exchange *exchange)
{
	const struct server_rooms *rooms = server_rooms(server);
	struct str id = route_part(exchange->route, http_path(exchange->http), 0);
	const struct record *record = records_find(records_of(server), id);
	if (record) {
		answer_with(exchange, record);
	} else if (!rooms->record_log || id.len == 0 || id.len >= ID_UUID_SIZE) {
		refuse_unknown(exchange);
	} else {
		struct lookup *lookup = task_new(server, exchange, sizeof *lookup);
		if (!lookup)
			return;
		lookup->dir = record_log_dir(rooms->record_log);
		(void)str_copy(id, lookup->id, sizeof lookup->id);
		net_work(rooms->loop, look, looked, lookup);
	}
}
