#include "swarm/sim/policy_chapter.h"

#define STRIKE_SPAN_US (60ull * 1000000)
#define SHAPE_SHUT_US  (300ull * 1000000)
#define RING_SPAN_US   (120ull * 1000000)
#define NODE_SHUT_US   (60ull * 1000000)
#define NODE_MOST_US   (300ull * 1000000)
#define IN_A_ROW       5
#define MOST_FAULTS    0.8

static void record(struct chapter_seat *seat, bool fault, uint64_t now_us)
{
	seat->ring[seat->ring_next].at_us = now_us;
	seat->ring[seat->ring_next].fault = fault;
	seat->ring_next = (seat->ring_next + 1) % CHAPTER_RING;
	seat->ring_len += seat->ring_len < CHAPTER_RING;
	seat->in_a_row = fault ? seat->in_a_row + 1 : 0;
}

static bool mostly_faults(const struct chapter_seat *seat, uint64_t now_us)
{
	uint32_t recent = 0, faults = 0;
	for (uint32_t i = 0; i < seat->ring_len; i++) {
		bool counts = seat->ring[i].at_us + RING_SPAN_US >= now_us;
		recent += counts;
		faults += counts && seat->ring[i].fault;
	}
	return recent >= CHAPTER_RING && faults > MOST_FAULTS * recent;
}

static void open_node(struct chapter_seat *seat, uint64_t now_us)
{
	uint64_t span_us = seat->trips < 3 ? NODE_SHUT_US << seat->trips : NODE_MOST_US;
	seat->open = true;
	seat->trips++;
	seat->shut_us = now_us + (span_us < NODE_MOST_US ? span_us : NODE_MOST_US);
}

void chapter_fault(struct sim_world *world, const struct sim_attempt *attempt)
{
	struct chapter_seat *seat = chapter_seat_of(world, attempt->seat);
	struct chapter_slot *slot = &seat->slots[attempt->slot];
	uint64_t now_us = world->now_us, *strikes_us = slot->shapes[attempt->stream.tools].strikes_us;
	strikes_us[0] = strikes_us[1];
	strikes_us[1] = now_us;
	if (strikes_us[0] && strikes_us[0] + STRIKE_SPAN_US >= now_us)
		slot->shapes[attempt->stream.tools].shut_us = now_us + SHAPE_SHUT_US;
	record(seat, true, now_us);
	bool half_open = seat->open && seat->shut_us <= now_us;
	if (half_open || (!seat->open && (seat->in_a_row >= IN_A_ROW || mostly_faults(seat, now_us))))
		open_node(seat, now_us);
}

void chapter_success(struct sim_world *world, const struct sim_attempt *attempt)
{
	struct chapter_seat *seat = chapter_seat_of(world, attempt->seat);
	struct chapter_slot *slot = &seat->slots[attempt->slot];
	slot->shapes[attempt->stream.tools].strikes_us[0] = slot->shapes[attempt->stream.tools].strikes_us[1] = 0;
	slot->shapes[attempt->stream.tools].shut_us = 0;
	record(seat, false, world->now_us);
	seat->open = false;
	seat->trips = 0;
}

bool chapter_shape_shut(const struct sim_world *world, const struct sim_seat *seat, uint32_t slot, bool tools)
{
	return chapter_seat_of(world, seat)->slots[slot].shapes[tools].shut_us > world->now_us;
}

/* Half open it lets everything through, not one probe: a trap of routing 22. */
bool chapter_node_shut(const struct sim_world *world, const struct sim_seat *seat)
{
	const struct chapter_seat *at = chapter_seat_of(world, seat);
	return at->open && at->shut_us > world->now_us;
}
