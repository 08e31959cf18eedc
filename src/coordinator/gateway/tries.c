/* Each dispatch of a request in its record: who was asked, and what came of it (registry 8, routing 18). */
#include "coordinator/gateway/call.h"

static bool is_running(const struct attempt *attempt)
{
	return attempt->started_us && attempt->try_at < RECORD_TRIES &&
	       attempt->call->record.tries[attempt->try_at].end == RECORD_TRY_STOPPED;
}

/* Those that run keep their places apart, however many were asked before. */
static unsigned place_for(struct call *call, const struct attempt *attempt)
{
	unsigned running = 0, gone;
	LIST_EACH (link, &call->attempts) {
		const struct attempt *other = LIST_OF(link, struct attempt, link);
		if (other != attempt && is_running(other))
			running |= 1u << other->try_at;
	}
	unsigned place = record_try_place(&call->record, running, &gone);
	LIST_EACH (link, &call->attempts) {
		struct attempt *other = LIST_OF(link, struct attempt, link);
		if (other == attempt || other->try_at < gone || other->try_at == RECORD_TRIES)
			continue;
		other->try_at = other->try_at == gone ? RECORD_TRIES : other->try_at - 1;
	}
	return place;
}

void tries_begin(struct attempt *attempt, const struct route_decision *decision)
{
	struct call *call = attempt->call;
	struct record *record = &call->record;
	struct fleet_provider_view provider;
	fleet_job_provider(attempt->job, &provider);
	attempt->decision = *decision;
	attempt->try_at = place_for(call, attempt);
	struct record_try *one = &record->tries[attempt->try_at];
	*one = (struct record_try){.backup = attempt->is_backup, .end = RECORD_TRY_STOPPED};
	(void)str_copy(provider.id, one->provider, sizeof one->provider);
	tries_chosen(attempt);
}

void tries_pass_over(struct call *call, const struct route_node *node, bool is_backup)
{
	struct fleet_provider_view provider;
	struct record_try *one = &call->record.tries[place_for(call, NULL)];
	fleet_node_provider(node, &provider);
	*one = (struct record_try){.backup = is_backup, .end = RECORD_TRY_TOO_DEAR};
	(void)str_copy(provider.id, one->provider, sizeof one->provider);
}

void tries_chosen(const struct attempt *attempt)
{
	struct record *record = &attempt->call->record;
	if (!attempt->job || attempt->try_at == RECORD_TRIES)
		return;
	record_note_decision(record, &attempt->decision);
	memcpy(record->provider, record->tries[attempt->try_at].provider, sizeof record->provider);
}

void tries_end(const struct attempt *attempt, enum record_try_end end, int status, uint64_t tokens)
{
	struct call *call = attempt->call;
	if (!is_running(attempt))
		return;
	struct record_try *one = &call->record.tries[attempt->try_at];
	uint64_t now_us = net_now_us(call->gateway->options.loop);
	one->end = end;
	one->status = status;
	one->accepted = attempt->accepted;
	one->place = attempt->queue_position;
	one->tokens = tokens;
	one->ms = (double)(now_us - attempt->started_us) / 1000;
}
