#include "coordinator/gateway/record.h"

#include <stdlib.h>
#include <string.h>

#include "core/map.h"

void record_init(struct record *record)
{
	*record = (struct record){
	    .cost_ms = -1, .runner_up_ms = -1, .predicted_ttft_ms = -1, .tail_ms = -1, .terms = {.ttft_ms = -1}, .ttft_ms = -1};
}

void records_init(struct records *records)
{
	*records = (struct records){0};
}

void records_free(struct records *records)
{
	if (records->by_id)
		map_free(records->by_id);
	free(records->by_id);
	free(records->ring);
	if (records->sum)
		record_sum_free(records->sum);
	free(records->sum);
	records_init(records);
}

static bool make_room(struct records *records)
{
	if (records->ring)
		return true;
	records->ring = calloc(RECORD_KEPT, sizeof *records->ring);
	records->by_id = malloc(sizeof *records->by_id);
	records->sum = malloc(sizeof *records->sum);
	if (records->ring && records->by_id && records->sum) {
		map_init(records->by_id);
		record_sum_init(records->sum);
		return true;
	}
	free(records->ring);
	free(records->by_id);
	free(records->sum);
	records->ring = NULL;
	records->by_id = NULL;
	records->sum = NULL;
	return false;
}

void records_restore(struct records *records, const struct record *record)
{
	if (!make_room(records)) {
		records->dropped++;
		return;
	}
	struct record *slot = &records->ring[records->next];
	if (slot->id[0] && map_get(records->by_id, str_of(slot->id)) == slot)
		map_remove(records->by_id, str_of(slot->id));
	*slot = *record;
	(void)map_put(records->by_id, str_of(slot->id), slot, NULL); /* without memory it is in the list alone */
	records->next = (records->next + 1) % RECORD_KEPT;
	records->count += records->count < RECORD_KEPT;
}

void records_add(struct records *records, const struct record *record)
{
	records_restore(records, record);
	if (records->sum)
		record_sum_add(records->sum, record);
}

const struct record *records_find(const struct records *records, struct str id)
{
	return records->by_id ? map_get(records->by_id, id) : NULL;
}

const struct record *records_at(const struct records *records, size_t n)
{
	return n < records->count ? &records->ring[(records->next + RECORD_KEPT - 1 - n) % RECORD_KEPT] : NULL;
}

unsigned record_try_place(struct record *record, unsigned running, unsigned *gone)
{
	*gone = RECORD_TRIES;
	if (record->try_count == RECORD_TRIES) {
		unsigned at = RECORD_TRIES - 1;
		while (at > 1 && running >> at & 1)
			at--;
		memmove(&record->tries[at], &record->tries[at + 1], (RECORD_TRIES - 1 - at) * sizeof record->tries[0]);
		record->try_count--;
		*gone = at;
	}
	record->tries[record->try_count] = (struct record_try){0};
	return record->try_count++;
}

void record_note_decision(struct record *record, const struct route_decision *decision)
{
	record->routed = true;
	record->considered = decision->considered;
	memcpy(record->by_gate, decision->by_gate, sizeof record->by_gate);
	record->chosen = decision->node != NULL;
	record->cold = decision->cold;
	record->owned = decision->owned;
	record->probe = decision->probe;
	record->bypassed_breaker = decision->bypassed_breaker;
	record->expected_tokens = decision->expected_tokens;
	record->cost_ms = record->chosen ? decision->cost_ms : -1;
	record->runner_up_ms = record->chosen ? decision->runner_up_ms : -1;
	record->predicted_ttft_ms = record->chosen ? decision->ttft_ms : -1;
	record->tail_ms = record->chosen ? decision->tail_ms : -1;
	record->terms = record->chosen ? decision->terms : (struct route_cost){.ttft_ms = -1};
}
