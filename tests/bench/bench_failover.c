/* failover_exact_pct: 10,000 answers of the scripted engine lose their provider after a random token; another engine goes on
 * from the tokens so far, through the bytes that travel between provider and coordinator. Exact: both halves together are the
 * undisturbed answer, byte for byte, with the same end and the same count. FAILOVER_KILLS sets how many. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/chat_resume.h"
#include "core/buf.h"
#include "provider/engine/engine.h"

#define WORDS_MAX  24
#define DELTAS_MAX 128

static const char *const words[] = {"one", "two",  "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x8c\x8a", "three-and-so",
                                    "a",   "STOP", "end",      "of",           "line\n",           "\"quote\""};

struct heard {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct buf said, notes; /* notes: each delta's, as on the wire */
	size_t said_at[DELTAS_MAX], notes_at[DELTAS_MAX], deltas;
	bool ended;
	enum engine_finish finish;
	int status;
	struct chat_usage usage;
};

static void on_delta(struct engine_call *call, const struct engine_delta *delta, void *user)
{
	struct heard *h = user;
	(void)call;
	if (delta->replayed)
		return;
	buf_append_str(&h->said, delta->content);
	chat_resume_note(&delta->sampled, &h->notes);
	if (h->deltas == DELTAS_MAX)
		return;
	h->said_at[h->deltas] = h->said.len;
	h->notes_at[h->deltas++] = h->notes.len;
}

static void on_finish(struct engine_call *call, enum engine_finish finish, const struct chat_usage *usage, void *user)
{
	struct heard *h = user;
	(void)call;
	pthread_mutex_lock(&h->lock);
	h->ended = true;
	h->finish = finish;
	h->usage = *usage;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
}

static void on_error(struct engine_call *call, int status, enum engine_reason reason, const char *text,
                     const struct chat_usage *so_far, void *user)
{
	(void)reason;
	(void)text;
	((struct heard *)user)->status = status;
	on_finish(call, ENGINE_FINISH_CANCELLED, so_far, user);
}

static const struct engine_callbacks hearing = {.on_delta = on_delta, .on_finish = on_finish, .on_error = on_error};

static void hear(struct engine *engine, const struct chat_request *chat, const struct chat_resume *resume, struct heard *h)
{
	struct error error;
	struct engine_call *call;
	struct engine_request what = {.chat = chat, .resume = *resume};
	*h = (struct heard){0};
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	buf_init(&h->said, 1 << 20);
	buf_init(&h->notes, 1 << 20);
	h->status = engine_submit(engine, &what, &hearing, h, &call, &error);
	if (h->status)
		return;
	pthread_mutex_lock(&h->lock);
	while (!h->ended)
		pthread_cond_wait(&h->changed, &h->lock);
	pthread_mutex_unlock(&h->lock);
	engine_call_release(call);
}

static void heard_free(struct heard *h)
{
	buf_free(&h->said);
	buf_free(&h->notes);
}

static unsigned below(unsigned bound)
{
	static uint64_t state = 20261123;
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(state >> 33) % bound;
}

/* The tokens that a coordinator has read from the notes of so many deltas. */
static bool read_notes(const struct heard *h, size_t deltas, uint64_t *print, struct buf *tokens)
{
	for (size_t i = 0; i < deltas; i++) {
		size_t from = i ? h->notes_at[i - 1] : 0;
		if (chat_resume_read_note(str_sub(buf_str(&h->notes), from, h->notes_at[i] - from), print, tokens))
			return false;
	}
	return true;
}

static bool is_exact(struct engine *second, const struct chat_request *chat, const struct heard *whole, size_t deltas)
{
	struct heard rest;
	struct buf tokens;
	uint64_t print = 0;
	buf_init(&tokens, 1 << 20);
	bool exact = read_notes(whole, deltas, &print, &tokens);
	struct chat_resume resume = {print, (const int32_t *)(const void *)tokens.at, tokens.len / sizeof(int32_t)};
	hear(second, chat, &resume, &rest);
	size_t said = whole->said_at[deltas - 1];
	exact = exact && !rest.status && rest.finish == whole->finish &&
	        rest.usage.completion_tokens == whole->usage.completion_tokens &&
	        str_eq(buf_str(&rest.said), str_sub(buf_str(&whole->said), said, whole->said.len));
	heard_free(&rest);
	buf_free(&tokens);
	return exact;
}

static struct engine *engine_of(const struct engine_script *script)
{
	struct error error;
	struct engine *engine = engine_scripted_new(script, &error);
	if (!engine)
		exit(1);
	return engine;
}

static void make_text(struct buf *text)
{
	buf_clear(text);
	for (unsigned i = 0, count = 2 + below(WORDS_MAX - 2); i < count; i++)
		buf_printf(text, "%s ", words[below(sizeof words / sizeof *words)]);
	buf_append_byte(text, '\0');
}

static void make_request(struct arena *arena, struct chat_request *chat)
{
	struct json_doc *doc = json_parse(STR("[{\"role\":\"user\",\"content\":\"go on\"}]"), arena, NULL);
	*chat = (struct chat_request){.root = json_root(doc), .messages = json_root(doc), .stream = true, .n = 1};
	if (below(2))
		chat->max_tokens = 1 + below(60);
	if (below(2))
		chat->sampling.stops[chat->sampling.stop_count++] = below(2) ? STR("end of STOP") : STR("a STOP one two");
}

int main(void)
{
	const char *asked = getenv("FAILOVER_KILLS");
	unsigned long kills = asked ? strtoul(asked, NULL, 10) : 10000, done = 0, exact = 0;
	struct buf text;
	buf_init(&text, 1 << 16);
	while (done < kills) {
		struct arena *arena = arena_new(0);
		struct chat_request chat;
		struct heard whole;
		make_text(&text);
		make_request(arena, &chat);
		struct engine_script script = {.text = text.at, .tokens = below(2) ? 2 + below(80) : 0};
		struct engine *first = engine_of(&script), *second = engine_of(&script);
		hear(first, &chat, &(struct chat_resume){0}, &whole);
		for (unsigned i = 0; i < 50 && done < kills && whole.deltas > 0; i++, done++)
			exact += is_exact(second, &chat, &whole, 1 + below((unsigned)whole.deltas));
		heard_free(&whole);
		engine_free(first);
		engine_free(second);
		arena_free(arena);
	}
	buf_free(&text);
	printf("bench failover_exact_pct %.4f %%\n", 100.0 * (double)exact / (double)done);
	return exact == done ? 0 : 1;
}
