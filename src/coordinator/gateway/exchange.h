/* One HTTP exchange as the coordinator's handlers see it: which route, who calls, and answers in the API's shape (http-api 1.2
 * to 1.4). Lives in the request's arena: it is gone as soon as an answer was handed over or on_gone has returned. Thread: the
 * loop's. */
#ifndef COORDINATOR_EXCHANGE_H
#define COORDINATOR_EXCHANGE_H

#include "api/dialect.h"
#include "coordinator/accounts/accounts.h"
#include "coordinator/observe/metrics.h"
#include "net/http_server.h"

#define EXCHANGE_ID_SIZE  129
#define EXCHANGE_STATUSES 16

/* Counts the answers of one route: http_requests_total{method,path,status} and http_request_duration_seconds{method,path}. */
struct exchange_meter {
	struct metrics *metrics;
	const char *method, *path; /* the route's pattern, or "unmatched" */
	struct metric *duration;
	struct {
		int status;
		struct metric *count;
	} by_status[EXCHANGE_STATUSES];
};
void exchange_meter_init(struct exchange_meter *meter, struct metrics *metrics, const char *method, const char *path);

struct exchange;
struct route;

/* A layer between the handlers and HTTP through which everything that goes out passes: the sealed transport. Each does what the
 * http_ function of the like name does, with the bytes in its own form. */
struct exchange_cover {
	void (*respond)(struct exchange *exchange, int status, const char *content_type, struct str body);
	enum db_err (*write)(struct exchange *exchange, struct str bytes);
	void (*end)(struct exchange *exchange);
	void (*gone)(struct exchange *exchange); /* the client left */
};

struct exchange {
	struct http_request *http;
	const struct route *route; /* once the handler is called */
	struct net_loop *loop;
	struct exchange_meter *meter;
	const struct dialect *dialect;      /* in which errors are said; set by the route table, never NULL */
	struct caller caller;               /* of routes that ask who calls */
	char request_id[EXCHANGE_ID_SIZE];  /* the caller's X-Request-ID, or one made here; echoed */
	int status;                         /* of a stream that was started */
	size_t *inflight;                   /* counted from the head to the end of the answer; NULL = not counted */
	void *owner;                        /* the handler's state, for on_gone and on_room */
	const struct exchange_cover *cover; /* NULL: in the clear */
	void *cover_state;
	struct str opened_body;    /* what the cover found inside the body */
	const void *dialect_input; /* of an inference request: chat_request.dialect_input */
	/* Hears of an error that is about to be sent: for requests that nobody keeps a record of yet. May be NULL. */
	void (*on_refused)(struct exchange *exchange, const struct api_error *error, void *user);
	void *refused_user;
	const char *refused_by; /* nearer than the error's type: which limit it was; static text or NULL */
	/* The client left before the answer was handed over; may be NULL. */
	void (*on_gone)(struct exchange *exchange);
};

/* Made at the head of a request; adds X-Request-ID. NULL when out of memory (503 was answered). */
struct exchange *exchange_begin(struct http_request *http, struct net_loop *loop, struct exchange_meter *meter,
                                const struct dialect *dialect);

/* The request's body as the handler is to read it; lives as long as the exchange. */
struct str exchange_body(const struct exchange *exchange);

/* Each ends the exchange. */
void exchange_error(struct exchange *exchange, const struct api_error *error);
void exchange_json(struct exchange *exchange, int status, struct str body);
void exchange_answer(struct exchange *exchange, int status, const char *content_type, struct str body);

/* An event stream. on_room as in http_stream_start, with the owner. */
void exchange_stream_start(struct exchange *exchange, void (*on_room)(struct http_request *http, void *exchange));
/* Any other stream: a download. */
void exchange_stream_start_as(struct exchange *exchange, const char *content_type,
                              void (*on_room)(struct http_request *http, void *exchange));
size_t exchange_stream_room(const struct exchange *exchange); /* as http_stream_room */
enum db_err exchange_stream_write(struct exchange *exchange, struct str bytes);
void exchange_stream_end(struct exchange *exchange);

/* http_add_header for text; values that cannot stand in a header are left out. */
void exchange_header(struct exchange *exchange, const char *name, struct str value);

#endif
