#include "coordinator/gateway/limit.h"

#include "api/dialect.h"
#include "core/clock.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const kind_names[LIMIT_KINDS] = {"requests", "input-tokens", "output-tokens"};

int64_t limit_now_us(void)
{
	return (int64_t)clock_mono_us();
}

static void put(struct exchange *exchange, const char *name, int64_t value, const char *unit)
{
	char text[32];
	(void)snprintf(text, sizeof text, "%" PRId64 "%s", value, unit);
	exchange_header(exchange, name, str_of(text));
}

/* As Anthropic's clients know them: the kind before the word, and a time instead of a span. */
static void put_anthropic(struct exchange *exchange, const char *kind, const struct limit_view *view)
{
	char name[64], when[CLOCK_RFC3339_SIZE];
	(void)snprintf(name, sizeof name, "anthropic-ratelimit-%s-limit", kind);
	put(exchange, name, view->limit, "");
	(void)snprintf(name, sizeof name, "anthropic-ratelimit-%s-remaining", kind);
	put(exchange, name, view->remaining, "");
	(void)snprintf(name, sizeof name, "anthropic-ratelimit-%s-reset", kind);
	clock_format_rfc3339(clock_wall_us() + view->reset_s * 1000000, when);
	exchange_header(exchange, name, str_of(when));
}

static void put_view(struct exchange *exchange, const char *kind, const struct limit_view *view)
{
	char name[64];
	if (!view->limited)
		return;
	(void)snprintf(name, sizeof name, "x-ratelimit-limit-%s", kind);
	put(exchange, name, view->limit, "");
	(void)snprintf(name, sizeof name, "x-ratelimit-remaining-%s", kind);
	put(exchange, name, view->remaining, "");
	(void)snprintf(name, sizeof name, "x-ratelimit-reset-%s", kind);
	put(exchange, name, view->reset_s, "s");
	if (exchange->dialect == &dialect_anthropic)
		put_anthropic(exchange, kind, view);
}

static bool tell(struct exchange *exchange, const struct limit_verdict *verdict, struct api_error *error)
{
	static const char *const what[LIMIT_KINDS] = {"requests", "input tokens", "output tokens"};
	for (int kind = 0; kind < LIMIT_KINDS; kind++)
		put_view(exchange, kind_names[kind], &verdict->views[kind]);
	if (verdict->allowed)
		return true;
	static const char *const reasons[LIMIT_KINDS] = {"requests_per_minute", "input_tokens_per_minute",
	                                                 "output_tokens_per_minute"};
	exchange->refused_by = reasons[verdict->by];
	put(exchange, "X-RateLimit-Reset", clock_wall_us() / 1000000 + verdict->retry_after_s, "");
	api_fail(error, 429, "rate_limit_exceeded", NULL, NULL, "Too many %s in a minute for this %s: try again in %d s.",
	         what[verdict->by], verdict->by_key ? "API key" : "account", verdict->retry_after_s);
	error->retry_after_s = verdict->retry_after_s;
	return false;
}

bool limit_tell_tokens(struct exchange *exchange, const struct limit_verdict *verdict, struct api_error *error)
{
	return tell(exchange, verdict, error);
}

bool limit_pass_request(struct limits *limits, struct exchange *exchange)
{
	struct limit_verdict verdict;
	struct api_error error;
	if (!limits)
		return true;
	limits_request(limits, &exchange->caller, limit_now_us(), &verdict);
	if (tell(exchange, &verdict, &error))
		return true;
	exchange_error(exchange, &error);
	return false;
}

bool limit_pass_financial(struct limits *limits, struct exchange *exchange)
{
	struct limit_verdict verdict;
	struct api_error error;
	if (!limits)
		return true;
	limits_financial(limits, &exchange->caller, limit_now_us(), &verdict);
	if (verdict.allowed)
		return true;
	(void)tell(exchange, &verdict, &error);
	exchange_error(exchange, &error);
	return false;
}
