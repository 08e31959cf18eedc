#include "coordinator/fleet/job_error.h"

#include <ctype.h>

#define TEXT_MAX 1024 /* the tables are read on so much of a text */

/* Lower case, and a curly apostrophe as a plain one. */
static struct str normalise(struct str text, char out[TEXT_MAX])
{
	static const char curly[] = "\xe2\x80\x99";
	size_t len = 0;
	for (size_t i = 0; i < text.len && len < TEXT_MAX; i++) {
		if (text.len - i >= 3 && memcmp(text.at + i, curly, 3) == 0) {
			out[len++] = '\'';
			i += 2;
		} else {
			out[len++] = (char)tolower((unsigned char)text.at[i]);
		}
	}
	return (struct str){out, len};
}

static bool has(struct str text, const char *word)
{
	return memmem(text.at, text.len, word, strlen(word)) != NULL;
}

static bool has_any(struct str text, const char *const *words)
{
	for (; *words; words++)
		if (has(text, *words))
			return true;
	return false;
}

static bool has_whole_word(struct str text, const char *word)
{
	size_t len = strlen(word);
	for (size_t i = 0; i + len <= text.len; i++) {
		bool starts = i == 0 || !isalnum((unsigned char)text.at[i - 1]);
		bool ends = i + len == text.len || !isalnum((unsigned char)text.at[i + len]);
		if (starts && ends && memcmp(text.at + i, word, len) == 0)
			return true;
	}
	return false;
}

static bool is_fault_text(struct str text)
{
	static const char *const words[] = {
	    "panic", "fatal error", "backend crash", "backend_crash", "internal error", "the operation couldn't be completed",
	    NULL};
	return has_any(text, words);
}

static bool is_capacity_text(struct str text)
{
	static const char *const words[] = {"token_budget_exhausted",
	                                    "token budget",
	                                    "kv cache headroom",
	                                    "kv headroom",
	                                    "insufficient kv",
	                                    "context length",
	                                    "context window",
	                                    "insufficient memory",
	                                    "out of memory",
	                                    "draining",
	                                    "request rejected",
	                                    "queue full",
	                                    "server busy",
	                                    "request timed out waiting for capacity",
	                                    "not loaded",
	                                    "no model loaded",
	                                    NULL};
	return has_any(text, words) || has_whole_word(text, "oom") || (has(text, "exceeds") && has(text, "context")) ||
	       (has(text, "slot") && (has(text, "active") || has(text, "cap")));
}

static bool is_deterministic_text(struct str text)
{
	static const char *const words[] = {"context length", "context window", "batch token budget", NULL};
	return has_any(text, words) || (has(text, "context") && (has(text, "exceeds") || has(text, "exceeded")));
}

/* The provider could not read what only we can have written wrong for it: another one may. */
static bool is_transport_text(struct str text)
{
	static const char *const words[] = {"decryption failed", "missing encrypted_body", "ephemeral", "ciphertext", NULL};
	return has_any(text, words);
}

static bool blames(int status, struct str text, bool capacity)
{
	switch (status) {
	case 500:
	case 502:
	case 504:
		return !has(text, "token_budget_exhausted") && !has(text, "insufficient memory");
	case 429:
		return false;
	default:
		return status >= 500 ? !capacity : is_transport_text(text);
	}
}

static bool is_template_reason(struct str reason)
{
	return str_starts(reason, STR("jinja_"));
}

/* A request that no machine could serve is nobody's fault, whatever the status says. */
static enum route_outcome outcome_of(int status, struct str text, struct str reason, const struct job_error *class)
{
	if (is_template_reason(reason) || str_is(reason, "model_load"))
		return class->capacity ? ROUTE_OUTCOME_CAPACITY : ROUTE_OUTCOME_SHAPE_FAULT;
	if (class->deterministic)
		return ROUTE_OUTCOME_CLIENT;
	switch (status) {
	case 500:
	case 502:
	case 504:
		return class->capacity ? ROUTE_OUTCOME_SHAPE_FAULT : ROUTE_OUTCOME_FAULT;
	case 429:
		return ROUTE_OUTCOME_CAPACITY;
	default:
		if (class->capacity)
			return ROUTE_OUTCOME_CAPACITY;
		return status >= 500 || is_transport_text(text) ? ROUTE_OUTCOME_NODE_FAULT : ROUTE_OUTCOME_CLIENT;
	}
}

struct job_error job_error_classify(int status, struct str raw_text, struct str reason)
{
	char space[TEXT_MAX];
	struct str text = normalise(raw_text, space);
	struct job_error class = {.cancelled = status == 499 || has(text, "request cancelled")};
	if (class.cancelled)
		return class;
	class.capacity = !is_fault_text(text) && (is_capacity_text(text) || status == 429);
	class.deterministic = class.capacity && is_deterministic_text(text);
	class.fault = blames(status, text, class.capacity);
	class.cool_down = has(text, "insufficient memory") || has(text, "model load failed") || str_is(reason, "model_load");
	class.outcome = outcome_of(status, text, reason, &class);
	return class;
}
