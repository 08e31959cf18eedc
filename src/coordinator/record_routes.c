/* GET /v1/admin/routes and /v1/admin/routes/{id}: why requests went where they went (gateway/record.h). */
#include "coordinator/server.h"

#include "coordinator/gateway/record.h"
#include "coordinator/task.h"
#include "core/uri.h"

#define LISTED_MAX     1000
#define LISTED_DEFAULT 50
#define BODY_MAX       (8u << 20)

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
	const struct records *records = gateway_records(server_rooms(server)->gateway);
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
		bool wanted = (!outcome[0] || strcmp(outcome, record->outcome) == 0) &&
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

void handle_admin_route(struct server *server, struct exchange *exchange)
{
	struct str id = route_part(exchange->route, http_path(exchange->http), 0);
	const struct record *record = records_find(gateway_records(server_rooms(server)->gateway), id);
	struct buf body, words;
	struct json_writer w;
	if (!record) {
		task_refuse(exchange, 404, "not_found",
		            "There is no record of this request: the newest 8,192 since the start are kept.", 0);
		return;
	}
	buf_init(&body, BODY_MAX);
	buf_init(&words, BODY_MAX);
	record_explain(record, &words);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "route");
	record_write(record, &w);
	json_put_str(&w, "explanation", buf_str(&words));
	json_end_object(&w);
	buf_free(&words);
	task_answer(exchange, 200, &body);
}
