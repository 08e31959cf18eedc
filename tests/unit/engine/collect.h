/* Test helper: makes requests from JSON text and collects what an engine says about them. */
#ifndef TEST_ENGINE_COLLECT_H
#define TEST_ENGINE_COLLECT_H

#include "core/buf.h"
#include "core/json.h"
#include "core/utf8.h"
#include "provider/engine/engine.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct collector {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct engine_call *call;
	struct buf content, reasoning, tool_calls, logprobs;
	int started, deltas, ends;
	bool split_character; /* a delta was not whole UTF-8 characters */
	enum engine_finish finish;
	int status; /* of on_error, 0 = finished */
	char reason[64], text[320];
	struct chat_usage usage;
	int cancel_after_deltas; /* the callback itself cancels */
};

struct request {
	struct arena *arena;
	struct chat_request chat;
};

/* `messages` is JSON; more fields of chat may be set afterwards. */
static inline struct request request_of(const char *messages)
{
	struct request request = {.arena = arena_new(0)};
	struct json_doc *doc = json_parse(str_of(messages), request.arena, NULL);
	assert_non_null(doc);
	request.chat = (struct chat_request){.root = json_root(doc), .messages = json_root(doc), .stream = true, .n = 1};
	return request;
}

static inline struct request ask(const char *question)
{
	struct buf text;
	struct json_writer w;
	buf_init(&text, (size_t)64 << 20);
	json_writer_init(&w, &text);
	json_begin_array(&w);
	json_begin_object(&w);
	json_put_cstr(&w, "role", "user");
	json_put_cstr(&w, "content", question);
	json_end_object(&w);
	json_end_array(&w);
	assert_false(buf_append_byte(&text, '\0'));
	struct request request = request_of(text.at);
	buf_free(&text);
	return request;
}

static inline void request_free(struct request *request)
{
	arena_free(request->arena);
}

static inline void add_stop(struct request *request, const char *stop)
{
	struct chat_sampling *sampling = &request->chat.sampling;
	sampling->stops[sampling->stop_count++] = arena_str(request->arena, str_of(stop));
}

static inline void on_started(struct engine_call *call, void *user)
{
	struct collector *c = user;
	(void)call;
	pthread_mutex_lock(&c->lock);
	c->started++;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static inline void on_delta(struct engine_call *call, const struct engine_delta *delta, void *user)
{
	struct collector *c = user;
	pthread_mutex_lock(&c->lock);
	c->deltas++;
	c->split_character = c->split_character || !utf8_valid(delta->content) || !utf8_valid(delta->reasoning);
	buf_append_str(&c->content, delta->content);
	buf_append_str(&c->reasoning, delta->reasoning);
	buf_append_str(&c->tool_calls, delta->tool_calls);
	buf_append_str(&c->logprobs, delta->logprobs);
	bool cancel = c->deltas == c->cancel_after_deltas;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (cancel)
		engine_cancel(call);
}

static inline void on_finish(struct engine_call *call, enum engine_finish finish, const struct chat_usage *usage, void *user)
{
	struct collector *c = user;
	(void)call;
	pthread_mutex_lock(&c->lock);
	c->ends++;
	c->finish = finish;
	c->usage = *usage;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static inline void on_error(struct engine_call *call, int status, enum engine_reason reason, const char *text,
                            const struct chat_usage *so_far, void *user)
{
	struct collector *c = user;
	(void)call;
	pthread_mutex_lock(&c->lock);
	c->ends++;
	c->status = status;
	snprintf(c->reason, sizeof c->reason, "%s", engine_reason_name(reason));
	snprintf(c->text, sizeof c->text, "%s", text);
	c->usage = *so_far;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static const struct engine_callbacks collecting = {on_started, on_delta, on_finish, on_error};

static inline void collector_init(struct collector *c)
{
	*c = (struct collector){0};
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	buf_init(&c->content, 1 << 24);
	buf_init(&c->reasoning, 1 << 24);
	buf_init(&c->tool_calls, 1 << 24);
	buf_init(&c->logprobs, 1 << 24);
}

/* Gives the handle back too. */
static inline void collector_free(struct collector *c)
{
	engine_call_release(c->call);
	buf_free(&c->content);
	buf_free(&c->reasoning);
	buf_free(&c->tool_calls);
	buf_free(&c->logprobs);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
}

static inline int submit_as(struct engine *engine, const struct request *request, const char *tenant, struct collector *c)
{
	struct error error;
	const struct engine_request submitted = {.chat = &request->chat, .tenant = str_of(tenant)};
	int status = engine_submit(engine, &submitted, &collecting, c, &c->call, &error);
	if (status)
		snprintf(c->text, sizeof c->text, "%s", error.text);
	return status;
}

static inline void submit(struct engine *engine, const struct request *request, struct collector *c)
{
	assert_int_equal(submit_as(engine, request, "", c), 0);
	assert_non_null(c->call);
}

static inline void wait_end(struct collector *c)
{
	pthread_mutex_lock(&c->lock);
	while (!c->ends)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

static inline void wait_deltas(struct collector *c, int count)
{
	pthread_mutex_lock(&c->lock);
	while (c->deltas < count && !c->ends)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

static inline int deltas_now(struct collector *c)
{
	pthread_mutex_lock(&c->lock);
	int deltas = c->deltas;
	pthread_mutex_unlock(&c->lock);
	return deltas;
}

static inline void run(struct engine *engine, const struct request *request, struct collector *c)
{
	collector_init(c);
	submit(engine, request, c);
	wait_end(c);
}

static inline const char *content_of(struct collector *c)
{
	assert_false(buf_append_byte(&c->content, '\0'));
	c->content.len--;
	return c->content.at;
}

#endif
