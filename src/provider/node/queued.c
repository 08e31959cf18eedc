/* Requests that wait for their engine: which place they have, for the machine's owner and for the coordinator that asked to be
 * told. A place is looked at now and then: an engine tells nobody when it moves up. */
#include "provider/node/request.h"

#define LOOK_MS 250

static bool may_wait(const struct node_request *request)
{
	return request->call && !request->ended && !request->orphaned && !request->spoke;
}

static void tell_place(struct node_request *request)
{
	struct wire_message message = {.type = WIRE_ACCEPTED,
	                               .as.accepted = {.request_id = str_of(request->id), .queue_position = request->place}};
	if (outbound_push_message(&request->unsent, &message) == DB_OK) /* else it is told the next one */
		request_flush(request);
}

static void look(struct node_request *request)
{
	uint32_t place = engine_queue_position(request->call);
	if (place == request->place)
		return;
	request->place = place;
	if (place && request->queue_notes && !request->cancelled && !request->failed)
		tell_place(request);
}

static void on_look(struct net_timer *timer)
{
	struct node *node = LIST_OF(timer, struct node, queue_timer);
	bool more = false;
	LIST_EACH_SAFE (link, next, &node->all) {
		struct node_request *request = LIST_OF(link, struct node_request, link);
		if (!may_wait(request))
			continue;
		more = true;
		look(request);
	}
	node->watches_queue = more;
	if (!more)
		net_timer_stop(timer);
}

void request_watch_place(struct node_request *request)
{
	struct node *node = request->node;
	request->submitted_us = net_now_us(node->loop);
	if (node->watches_queue)
		return;
	node->watches_queue = true;
	net_timer_start(node->loop, &node->queue_timer, LOOK_MS, LOOK_MS, on_look);
}

size_t node_queue(const struct node *node, struct node_queued *out, size_t max)
{
	size_t count = 0;
	LIST_EACH (link, &node->all) {
		const struct node_request *request = LIST_OF(link, struct node_request, link);
		uint32_t place = may_wait(request) ? engine_queue_position(request->call) : 0;
		if (!place || count == max)
			continue;
		out[count++] = (struct node_queued){.model = request->head.model,
		                                    .request_id = request->id,
		                                    .position = place,
		                                    .waited_ms = (net_now_us(node->loop) - request->submitted_us) / 1000};
	}
	return count;
}
