/* Whether the coordinator lives, whether it takes requests, what it counts, and how providers prove themselves. */
#include "coordinator/server.h"
#include "coordinator/task.h"

#include "coordinator/openapi.h"

#include "core/json.h"
#include "core/version.h"

/* Given by whoever packages a release: a build from the tree alone is the same every day. */
#ifndef DARKBLOOM_BUILD_COMMIT
#define DARKBLOOM_BUILD_COMMIT "unknown"
#endif
#ifndef DARKBLOOM_BUILD_DATE
#define DARKBLOOM_BUILD_DATE "unknown"
#endif

void handle_health(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_str(&w, "status", STR("ok"));
	if (server_draining(server))
		json_put_bool(&w, "draining", true);
	json_put_i64(&w, "providers", (int64_t)fleet_count(server_rooms(server)->fleet));
	json_put_cstr(&w, "version", DARKBLOOM_VERSION);
	json_put_cstr(&w, "build_commit", DARKBLOOM_BUILD_COMMIT);
	json_put_cstr(&w, "build_date", DARKBLOOM_BUILD_DATE);
	json_end_object(&w);
	task_answer(exchange, 200, &body);
}

/* Ready: it takes inference requests and its books can be written. */
void handle_readyz(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct json_writer w;
	bool draining = server_draining(server), ready = !draining && store_healthy(server_rooms(server)->store, NULL);
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_bool(&w, "draining", draining);
	json_put_i64(&w, "inflight", (int64_t)server_inflight(server));
	json_put_bool(&w, "ready", ready);
	json_end_object(&w);
	task_answer(exchange, ready ? 200 : 503, &body);
}

void handle_openapi(struct server *server, struct exchange *exchange)
{
	(void)server;
	exchange_header(exchange, "Cache-Control", STR("public, max-age=300"));
	exchange_json(exchange, 200, str_of(openapi_document));
}

void handle_metrics(struct server *server, struct exchange *exchange)
{
	struct buf body;
	buf_init(&body, 64u << 20);
	metrics_write(server_rooms(server)->metrics, &body);
	exchange_answer(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&body));
	buf_free(&body);
}

void handle_encryption_key(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct api_error error;
	buf_init(&body, 4096);
	if (sealed_write_keys(server_sealed(server), &body) == DB_OK) {
		exchange_header(exchange, "Cache-Control", STR("public, max-age=300"));
		task_answer(exchange, 200, &body);
		return;
	}
	buf_free(&body);
	api_fail(&error, 503, "encryption_unavailable", NULL, NULL,
	         "This coordinator has no key for the sealed transport: its operator makes one by setting MNEMONIC.");
	exchange_error(exchange, &error);
}

void handle_attestation(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct api_error error;
	buf_init(&body, 256u << 20);
	if (fleet_attestation_json(server_rooms(server)->fleet, &body) == DB_OK) {
		task_answer(exchange, 200, &body);
		return;
	}
	buf_free(&body);
	api_fail(&error, 500, "internal_error", NULL, NULL, "The list of providers could not be made.");
	exchange_error(exchange, &error);
}
