/* The way in: from an envelope to the body that a handler reads. */
#include "coordinator/gateway/sealed.h"

#include "coordinator/gateway/sealed_cover.h"
#include "coordinator/gateway/sealed_keys.h"
#include "core/clock.h"
#include "core/replay.h"
#include "crypto/secret.h"
#include "wire/envelope.h"

#include <stdlib.h>

#define OPEN_INLINE_BYTES (64u << 10) /* larger envelopes are opened on a worker */

struct sealed {
	struct sealed_options options;
	struct sealed_keys *keys;
	struct replay seen;
	int64_t started_ms;
	struct list opening; /* on workers */
	struct metric *opened, *refused;
};

/* What came of an envelope. Its memory is the arena's that it was opened in. */
struct opening {
	struct envelope envelope;
	struct sealed_box box;
	struct box_shared shared;
	char kid[BOX_KID_SIZE];
	struct str plain;
	enum { OPENED, BAD_ENVELOPE, NO_SUCH_KEY, DOES_NOT_OPEN, OUT_OF_MEMORY } outcome;
	struct error why; /* of BAD_ENVELOPE */
};

struct sealed *sealed_new(const struct sealed_options *options, struct error *error)
{
	struct sealed *sealed = calloc(1, sizeof *sealed);
	if (!sealed) {
		error_set(error, DB_E_NOMEM, "There is not enough memory for the sealed transport.");
		return NULL;
	}
	sealed->options = *options;
	sealed->options.mnemonic = sealed->options.previous_mnemonics = NULL; /* borrowed until here */
	sealed->options.replay_window_s = options->replay_window_s ? options->replay_window_s : 300;
	sealed->started_ms = clock_wall_us() / 1000;
	list_init(&sealed->opening);
	/* A time may lie ahead of our clock by one window, and is good for another behind it. */
	replay_init(&sealed->seen, 2ull * sealed->options.replay_window_s * 1000000,
	            options->max_remembered ? options->max_remembered : 1u << 20);
	sealed->keys = sealed_keys_new(options, error);
	if (!sealed->keys) {
		sealed_free(sealed);
		return NULL;
	}
	struct metrics *m = options->metrics;
	sealed->opened = metrics_counter(m, "darkbloom_sealed_total", "outcome=\"opened\"", "Sealed requests.");
	sealed->refused = metrics_counter(m, "darkbloom_sealed_total", "outcome=\"refused\"", "Sealed requests.");
	return sealed;
}

enum db_err sealed_write_keys(const struct sealed *sealed, struct buf *out)
{
	return sealed_keys_write(sealed->keys, clock_wall_us(), out);
}

bool sealed_is_envelope(const struct http_request *http)
{
	struct str type;
	(void)str_cut(http_header_get(http, "content-type"), ';', &type);
	return str_eq_nocase(str_trim(type), STR(ENVELOPE_CONTENT_TYPE));
}

/* --- opening, on any thread --- */

static bool open_with(struct opening *o, const struct sealed_key *key)
{
	if (box_shared_derive(&o->shared, o->envelope.sender, key->pair.secret_key) != DB_OK ||
	    envelope_open(&o->box, &o->shared, &o->plain) != DB_OK)
		return false;
	(void)str_copy(str_of(key->kid), o->kid, sizeof o->kid);
	return true;
}

/* An envelope that names no key may be for any that is good: each is tried on a copy, as a failed attempt spoils the bytes. */
static void open_text(const struct sealed_keys *keys, int64_t wall_us, struct str text, struct arena *arena, struct opening *o)
{
	*o = (struct opening){.outcome = BAD_ENVELOPE};
	if (envelope_read(text, arena, &o->envelope, &o->why) != DB_OK)
		return;
	const struct sealed_key *named = sealed_keys_find(keys, o->envelope.kid, wall_us);
	if (o->envelope.kid.len && !named) {
		o->outcome = NO_SUCH_KEY;
		return;
	}
	size_t count = named ? 1 : sealed_keys_good(keys, wall_us);
	for (size_t i = 0; i < count; i++) {
		enum db_err err = envelope_decode(o->envelope.ciphertext, arena, &o->box);
		if (err == DB_E_NOMEM)
			o->outcome = OUT_OF_MEMORY;
		else if (err)
			error_set(&o->why, DB_E_INVALID, "The sealed envelope needs ciphertext: base64 of a nonce and a box.");
		if (err)
			return;
		if (open_with(o, named ? named : &keys->at[i])) {
			o->outcome = OPENED;
			return;
		}
	}
	o->outcome = DOES_NOT_OPEN;
}

/* --- what follows, on the loop --- */

static void refuse(struct sealed *sealed, struct exchange *exchange, int status, const char *type, const char *message)
{
	struct api_error error;
	metric_add(sealed->refused, 1);
	api_fail(&error, status, type, NULL, NULL, "%s", message);
	if (status == 503)
		error.retry_after_s = 5;
	exchange_error(exchange, &error);
}

/* True when the envelope is of now and was not here before; otherwise it was answered. */
static bool is_new(struct sealed *sealed, struct exchange *exchange, const struct sealed_box *box)
{
	int64_t made_ms, now_ms = clock_wall_us() / 1000, window_ms = (int64_t)sealed->options.replay_window_s * 1000;
	bool timed = envelope_time_ms(box, &made_ms);
	bool in_window = timed && made_ms <= now_ms + window_ms && made_ms >= now_ms - window_ms && made_ms >= sealed->started_ms;
	if (timed ? !in_window : sealed->options.require_time) {
		refuse(sealed, exchange, 400, "stale_envelope",
		       timed
		           ? "The envelope was made too long ago, or before this coordinator started, or ahead of its time: check the "
		             "clock and seal again."
		           : "This coordinator takes only envelopes whose nonce tells the time: seal again with a newer client.");
		return false;
	}
	switch (replay_note(&sealed->seen, envelope_id(box), net_now_us(sealed->options.loop))) {
	case DB_OK:
		return true;
	case DB_E_EXISTS:
		refuse(sealed, exchange, 400, "replayed_envelope", "This envelope was taken before: seal every request anew.");
		return false;
	default:
		refuse(sealed, exchange, 503, "encryption_unavailable", "Too many sealed requests at the moment: try again.");
		return false;
	}
}

static void conclude(struct sealed *sealed, struct exchange *exchange, const struct opening *o,
                     void (*then)(struct exchange *exchange, void *user), void *user)
{
	switch (o->outcome) {
	case BAD_ENVELOPE:
		refuse(sealed, exchange, 400, "invalid_sealed_envelope", o->why.text);
		return;
	case NO_SUCH_KEY:
		refuse(sealed, exchange, 400, "kid_mismatch",
		       "The envelope is for another key: fetch /v1/encryption-key again and seal anew.");
		return;
	case DOES_NOT_OPEN:
		refuse(sealed, exchange, 400, "decryption_failed", "The envelope does not open with this coordinator's key.");
		return;
	case OUT_OF_MEMORY:
		refuse(sealed, exchange, 503, "service_unavailable", "The request needs more memory than there is.");
		return;
	case OPENED:
		break;
	}
	if (!is_new(sealed, exchange, &o->box))
		return;
	if (sealed_cover(exchange, &o->shared, o->kid) != DB_OK) {
		refuse(sealed, exchange, 503, "service_unavailable", "The request needs more memory than there is.");
		return;
	}
	metric_add(sealed->opened, 1);
	exchange->opened_body = o->plain;
	then(exchange, user);
}

/* --- large envelopes: on a worker, with memory of their own, as the consumer may leave meanwhile --- */

struct task {
	struct list_link link;
	struct sealed *sealed;     /* NULL: stopped */
	struct exchange *exchange; /* NULL: the consumer left */
	void (*then)(struct exchange *exchange, void *user);
	void *user;
	struct sealed_keys *keys; /* a copy */
	int64_t wall_us;
	struct buf text;
	struct arena *arena;
	struct opening opening;
};

static void task_free(struct task *task)
{
	secret_wipe(&task->opening, sizeof task->opening);
	secret_free(task->keys);
	buf_free(&task->text);
	arena_free(task->arena);
	free(task);
}

static void on_gone(struct exchange *exchange)
{
	struct task *task = exchange->owner;
	task->exchange = NULL;
}

static void open_on_worker(void *arg)
{
	struct task *task = arg;
	open_text(task->keys, task->wall_us, buf_str(&task->text), task->arena, &task->opening);
}

static void opened_on_worker(void *arg)
{
	struct task *task = arg;
	struct sealed *sealed = task->sealed;
	struct exchange *exchange = task->exchange;
	if (sealed)
		list_remove(&sealed->opening, &task->link);
	if (sealed && exchange) {
		exchange->owner = NULL;
		exchange->on_gone = NULL;
		struct str plain = arena_str(http_arena(exchange->http), task->opening.plain);
		if (!plain.at && task->opening.plain.len)
			task->opening.outcome = OUT_OF_MEMORY;
		task->opening.plain = plain;
		conclude(sealed, exchange, &task->opening, task->then, task->user);
	}
	task_free(task);
}

static struct task *task_new(const struct sealed *sealed, struct str text)
{
	struct task *task = calloc(1, sizeof *task);
	if (!task)
		return NULL;
	buf_init(&task->text, text.len);
	task->keys = secret_alloc(sizeof *task->keys);
	task->arena = arena_new(0);
	if (task->keys && task->arena && buf_append_str(&task->text, text) == DB_OK) {
		*task->keys = *sealed->keys;
		return task;
	}
	task_free(task);
	return NULL;
}

void sealed_open(struct sealed *sealed, struct exchange *exchange, void (*then)(struct exchange *exchange, void *user),
                 void *user)
{
	struct str text = http_body(exchange->http);
	if (sealed->keys->count == 0) {
		refuse(sealed, exchange, 503, "encryption_unavailable",
		       "This coordinator has no key for the sealed transport: its operator makes one by setting MNEMONIC.");
		return;
	}
	if (text.len <= OPEN_INLINE_BYTES) {
		struct opening opening;
		open_text(sealed->keys, clock_wall_us(), text, http_arena(exchange->http), &opening);
		conclude(sealed, exchange, &opening, then, user);
		secret_wipe(&opening, sizeof opening);
		return;
	}
	struct task *task = task_new(sealed, text);
	if (!task) {
		refuse(sealed, exchange, 503, "service_unavailable", "The request needs more memory than there is.");
		return;
	}
	task->sealed = sealed;
	task->exchange = exchange;
	task->then = then;
	task->user = user;
	task->wall_us = clock_wall_us();
	exchange->owner = task;
	exchange->on_gone = on_gone;
	list_push_back(&sealed->opening, &task->link);
	net_work(sealed->options.loop, open_on_worker, opened_on_worker, task);
}

void sealed_free(struct sealed *sealed)
{
	if (!sealed)
		return;
	for (struct list_link *link; (link = list_pop_front(&sealed->opening));)
		LIST_OF(link, struct task, link)->sealed = NULL;
	if (sealed->keys)
		secret_free(sealed->keys);
	replay_free(&sealed->seen);
	free(sealed);
}
