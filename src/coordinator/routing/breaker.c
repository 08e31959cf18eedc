/* Breakers and cool-downs (routing 11.3), and what an outcome does to them (11.2). */
#include "coordinator/routing/routing_internal.h"

#define SECOND_US        1000000ull
#define STRIKES          2
#define STRIKE_WINDOW_US (60 * SECOND_US)
#define SHAPE_SHUT_US    (300 * SECOND_US)
#define FAULTS_IN_A_ROW  5
#define RING_WINDOW_US   (120 * SECOND_US)
#define RING_FAULTS      (ROUTE_BREAKER_RING * 4 / 5) /* more than these open it */
#define NODE_SHUT_US     (60 * SECOND_US)
#define NODE_SHUT_MAX_US (300 * SECOND_US)
#define TRIPS_MAX        3                 /* further ones do not make it longer */
#define FORGET_US        (600 * SECOND_US) /* after the last fault, or after a breaker became half open */

static bool is_shut(const struct route_breaker *breaker, uint64_t now_us)
{
	return breaker->open_until_us && (now_us < breaker->open_until_us || breaker->probe);
}

static bool is_half_open(const struct route_breaker *breaker, uint64_t now_us)
{
	return breaker->open_until_us && now_us >= breaker->open_until_us && !breaker->probe;
}

bool route_node_shut(const struct route_node *node, uint64_t now_us)
{
	return node->device && node->device->health && is_shut(&node->device->health->breaker, now_us);
}

uint8_t route_shapes_shut(const struct route_record *record, uint64_t now_us)
{
	unsigned bits = 0;
	for (unsigned shape = 0; record && shape < ROUTE_SHAPES; shape++)
		bits |= is_shut(&record->shapes[shape].breaker, now_us) ? 1u << shape : 0;
	return (uint8_t)bits;
}

bool route_is_cooling(const struct route_entry *entry, uint64_t now_us)
{
	const struct route_record *record = route_record_of(entry);
	return record && record->cool_until_us > now_us;
}

/* --- probes --- */

static struct route_breaker *node_breaker(const struct route_reservation *reservation)
{
	struct route_device *device = reservation->node ? reservation->node->device : NULL;
	return device && device->health ? &device->health->breaker : NULL;
}

static struct route_breaker *shape_breaker(const struct route_reservation *reservation)
{
	struct route_record *record = reservation->entry ? route_record_of(reservation->entry) : NULL;
	return record ? &record->shapes[reservation->shape].breaker : NULL;
}

bool route_probe_begin(const struct route_fleet *fleet, const struct route_reservation *reservation)
{
	struct route_breaker *breakers[] = {node_breaker(reservation), shape_breaker(reservation)};
	bool probes = false;
	for (int i = 0; i < 2; i++) {
		if (!breakers[i] || !is_half_open(breakers[i], fleet->now_us))
			continue;
		breakers[i]->probe = reservation;
		probes = true;
	}
	return probes;
}

bool route_probe_end(const struct route_reservation *reservation)
{
	struct route_breaker *breakers[] = {node_breaker(reservation), shape_breaker(reservation)};
	bool probed = false;
	for (int i = 0; i < 2; i++) {
		if (!breakers[i] || breakers[i]->probe != reservation)
			continue;
		breakers[i]->probe = NULL;
		probed = true;
	}
	return probed;
}

/* --- time --- */

static uint64_t earlier(uint64_t a_us, uint64_t b_us, uint64_t now_us)
{
	if (b_us <= now_us)
		return a_us;
	return a_us && a_us < b_us ? a_us : b_us;
}

/* The next instant at which something of the record changes; 0 when it holds nothing any more. */
static uint64_t record_event(const struct route_record *record, uint64_t now_us)
{
	uint64_t at_us = earlier(0, record->cool_until_us, now_us);
	for (int shape = 0; shape < ROUTE_SHAPES; shape++) {
		const struct route_breaker *breaker = &record->shapes[shape].breaker;
		uint64_t struck_us = record->shapes[shape].struck_us;
		at_us = earlier(at_us, breaker->open_until_us, now_us);
		at_us = earlier(at_us, breaker->open_until_us ? breaker->open_until_us + FORGET_US : 0, now_us);
		at_us = earlier(at_us, struck_us ? struck_us + STRIKE_WINDOW_US : 0, now_us);
	}
	return at_us;
}

void route_record_rearm(struct route_fleet *fleet, struct route_record *record)
{
	uint64_t at_us = record_event(record, fleet->now_us);
	bool runs = at_us && heap_put(&fleet->timers, &record->timer.item, at_us);
	if (!runs)
		route_record_free(fleet, record);
}

static uint64_t health_event(const struct route_health *health, uint64_t now_us)
{
	uint64_t at_us = earlier(0, health->breaker.open_until_us, now_us);
	uint64_t since_us =
	    health->last_fault_us > health->breaker.open_until_us ? health->last_fault_us : health->breaker.open_until_us;
	return earlier(at_us, since_us + FORGET_US, now_us);
}

void route_health_rearm(struct route_fleet *fleet, struct route_health *health)
{
	uint64_t at_us = health_event(health, fleet->now_us);
	bool runs = at_us && heap_put(&fleet->timers, &health->timer.item, at_us);
	if (!runs)
		route_health_free(fleet, health);
}

void route_timer_fired(struct route_fleet *fleet, struct route_timer *timer)
{
	struct route_device *device;
	if (timer->of_device) {
		struct route_health *health = LIST_OF(timer, struct route_health, timer);
		device = health->device;
		route_health_rearm(fleet, health);
	} else {
		struct route_record *record = LIST_OF(timer, struct route_record, timer);
		device = record->device;
		route_record_rearm(fleet, record);
	}
	route_device_refresh(fleet, device);
}

void route_record_cool(struct route_fleet *fleet, struct route_record *record, uint64_t until_us)
{
	const struct route_device *device = record->device;
	record->cool_until_us = until_us;
	route_record_rearm(fleet, record);
	route_device_refresh(fleet, device);
}

/* --- outcomes --- */

static void shut(struct route_breaker *breaker, uint64_t until_us)
{
	if (until_us > breaker->open_until_us)
		breaker->open_until_us = until_us;
	breaker->probe = NULL;
}

static void strike_shape(struct route_fleet *fleet, const struct route_reservation *reservation, uint64_t now_us)
{
	struct route_entry *entry = reservation->entry;
	struct route_record *record = entry ? route_record_get(fleet, reservation->node, entry) : NULL;
	if (!record)
		return;
	bool recent = now_us - record->shapes[reservation->shape].struck_us < STRIKE_WINDOW_US;
	struct route_breaker *breaker = &record->shapes[reservation->shape].breaker;
	uint8_t strikes = recent ? record->shapes[reservation->shape].strikes : 0;
	record->shapes[reservation->shape].strikes = strikes < UINT8_MAX ? strikes + 1 : strikes;
	record->shapes[reservation->shape].struck_us = now_us;
	if (breaker->open_until_us || record->shapes[reservation->shape].strikes >= STRIKES)
		shut(breaker, now_us + SHAPE_SHUT_US);
	route_record_rearm(fleet, record);
}

static void pardon_shape(struct route_fleet *fleet, const struct route_reservation *reservation)
{
	struct route_record *record = reservation->entry ? route_record_of(reservation->entry) : NULL;
	if (!record)
		return;
	memset(&record->shapes[reservation->shape], 0, sizeof record->shapes[reservation->shape]);
	record->cool_until_us = 0;
	route_record_rearm(fleet, record);
}

static bool ring_says_sick(const struct route_health *health, uint64_t now_us)
{
	unsigned faults = (unsigned)__builtin_popcount(health->faults & ((1u << ROUTE_BREAKER_RING) - 1));
	uint64_t oldest_us = health->at_us[health->next % ROUTE_BREAKER_RING];
	return health->outcomes == ROUTE_BREAKER_RING && now_us - oldest_us <= RING_WINDOW_US && faults > RING_FAULTS;
}

static void remember(struct route_health *health, bool fault, uint64_t now_us)
{
	health->faults = health->faults << 1 | (fault ? 1u : 0u);
	health->at_us[health->next] = now_us;
	health->next = (uint8_t)((health->next + 1) % ROUTE_BREAKER_RING);
	health->outcomes = health->outcomes < ROUTE_BREAKER_RING ? health->outcomes + 1 : health->outcomes;
	health->consecutive = !fault ? 0 : health->consecutive < UINT8_MAX ? health->consecutive + 1 : health->consecutive;
}

static void trip(struct route_health *health, uint64_t now_us)
{
	uint64_t for_us = NODE_SHUT_US << (health->trips < TRIPS_MAX ? health->trips : TRIPS_MAX);
	health->trips = health->trips < TRIPS_MAX ? health->trips + 1 : TRIPS_MAX;
	shut(&health->breaker, now_us + (for_us < NODE_SHUT_MAX_US ? for_us : NODE_SHUT_MAX_US));
}

/* A fault while the breaker is open (of a request that was running, or let in for want of others) does not open it for longer:
 * only the probe's does. */
static void note_fault(struct route_fleet *fleet, struct route_node *node, uint64_t now_us)
{
	struct route_device *device = route_device_of(fleet, node);
	struct route_health *health = device ? route_health_get(device) : NULL;
	if (!health)
		return;
	remember(health, true, now_us);
	health->last_fault_us = now_us;
	bool open = health->breaker.open_until_us != 0;
	if (open ? now_us >= health->breaker.open_until_us
	         : health->consecutive >= FAULTS_IN_A_ROW || ring_says_sick(health, now_us))
		trip(health, now_us);
	route_health_rearm(fleet, health);
}

static void note_success(const struct route_node *node, uint64_t now_us)
{
	struct route_health *health = node->device ? node->device->health : NULL;
	if (!health)
		return;
	remember(health, false, now_us);
	health->breaker = (struct route_breaker){0};
	health->trips = 0;
}

static void tell_reputation(struct route_fleet *fleet, struct route_node *node, enum route_outcome outcome)
{
	bool blamed = outcome != ROUTE_OUTCOME_OK && outcome != ROUTE_OUTCOME_CAPACITY && outcome != ROUTE_OUTCOME_CLIENT &&
	              outcome != ROUTE_OUTCOME_LATE;
	struct route_device *device = blamed || outcome == ROUTE_OUTCOME_OK ? route_device_of(fleet, node) : NULL;
	if (device)
		reputation_job(&device->reputation, !blamed);
}

void route_outcome(struct route_fleet *fleet, const struct route_reservation *reservation, enum route_outcome outcome,
                   uint64_t now_us)
{
	struct route_node *node = reservation->node;
	if (!node)
		return;
	route_advance(fleet, now_us);
	bool counts = outcome != ROUTE_OUTCOME_LOST || !node->loss_told;
	tell_reputation(fleet, node, outcome);
	switch (outcome) {
	case ROUTE_OUTCOME_OK:
		pardon_shape(fleet, reservation);
		note_success(node, now_us);
		break;
	case ROUTE_OUTCOME_LOST:
	case ROUTE_OUTCOME_FAULT:
	case ROUTE_OUTCOME_TIMEOUT:
		if (counts) {
			strike_shape(fleet, reservation, now_us);
			note_fault(fleet, node, now_us);
		}
		break;
	case ROUTE_OUTCOME_SHAPE_FAULT:
		strike_shape(fleet, reservation, now_us);
		break;
	case ROUTE_OUTCOME_NODE_FAULT:
		note_fault(fleet, node, now_us);
		break;
	case ROUTE_OUTCOME_CAPACITY:
	case ROUTE_OUTCOME_CLIENT:
	case ROUTE_OUTCOME_LATE:
		return;
	}
	node->loss_told |= outcome == ROUTE_OUTCOME_LOST;
	if (node->device)
		route_device_refresh(fleet, node->device);
}
