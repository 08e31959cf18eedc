#include "swarm/sim/diary.h"

#include <stdlib.h>

#include "swarm/sim/world.h"

enum db_err sim_diary_open(struct sim_diary *diary, size_t requests)
{
	diary->pages = calloc(requests + 1, sizeof *diary->pages);
	diary->count = requests;
	return diary->pages ? DB_OK : DB_E_NOMEM;
}

void sim_diary_close(struct sim_diary *diary)
{
	free(diary->pages);
	diary->pages = NULL;
}

struct sim_page *sim_diary_page(const struct sim_world *world, const struct sim_call *call)
{
	struct sim_diary *diary = world->scenario->diary;
	return diary && diary->pages ? &diary->pages[call->request - world->trace->requests] : NULL;
}

const char *sim_ill(const struct sim_seat *seat)
{
	if (!seat->connected)
		return "lost";
	if (seat->frozen)
		return "frozen";
	if (seat->box.factor <= 0)
		return "silent";
	if (seat->box.factor < 1)
		return "slow";
	if (seat->box.erring)
		return "failing";
	return seat->box.squeezed ? "squeezed" : "well";
}

void sim_diary_hedging(const struct sim_world *world, const struct sim_call *call, const struct sim_seat *seat,
                       enum sim_hedging hedging)
{
	struct sim_page *page = sim_diary_page(world, call);
	if (!page)
		return;
	page->hedging = hedging;
	page->then_ill = sim_ill(seat);
	page->looks++;
}

static const char *or_none(const char *word)
{
	return word ? word : "";
}

static void put_page(const struct sim_page *page, const struct sim_request *request, const struct sim_result *result,
                     struct buf *out)
{
	static const char *const outcomes[] = {"open", "answered", "refused", "broken off", "left"};
	static const char *const hedgings[] = {"not due", "works for others", "own", "nobody", "not worth", "budget", "asked"};
	(void)buf_printf(out, "%.3f,%u,%u,%s,%.0f,%.0f,%u,%d,", (double)request->at_us / 1e6, request->prompt, request->output,
	                 outcomes[result->outcome], (double)result->ttft_ms, (double)result->queue_ms, result->tries, result->cold);
	(void)buf_printf(out, "%u,%s,%.0f,%.0f,%.0f,", page->first, or_none(page->first_ill), (double)page->predicted_ms,
	                 (double)page->tail_ms, (double)page->due_ms);
	(void)buf_printf(out, "%s,%s,%u,%.0f,%u,%s,%d\n", hedgings[page->hedging], or_none(page->then_ill), page->looks,
	                 (double)page->asked_ms, page->second, or_none(page->second_ill), page->won);
}

void sim_diary_write(const struct sim_diary *diary, const struct sim_trace *trace, const struct sim_result *results)
{
	(void)buf_append_str(diary->out,
	                     STR("at_s,prompt,output,outcome,ttft_ms,queue_ms,tries,cold,machine,ill,predicted_ms,tail_ms,due_ms,"
	                         "hedge,ill_then,looks,asked_ms,second,second_ill,second_won\n"));
	for (size_t i = 0; i < diary->count; i++)
		put_page(&diary->pages[i], &trace->requests[i], &results[i], diary->out);
}
