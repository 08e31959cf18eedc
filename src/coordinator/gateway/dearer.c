/* Providers whose own price takes more than what is on hold: that is looked at before anything of the request is sent to one
 * (billing 4.2). Where other coordinators may have the money they are asked for it; one that cannot be paid is passed over. */
#include "coordinator/gateway/call.h"

#include "core/log.h"

#define ASKS_REFUSED_MAX 3 /* of one request: each may take seconds */
#define UNKNOWN_RETRY_S  2

bool dearer_covers(struct attempt *attempt, const struct route_node *node)
{
	struct call *call = attempt->call;
	struct fleet_provider_view provider;
	fleet_node_provider(node, &provider);
	attempt->price = ledger_price(call->gateway->options.ledger, provider.account, str_of(call->model), call->service);
	attempt->owned = wishes_granted(&call->wishes, call_account(call), &provider);
	attempt->uncovered = attempt->owned ? DB_OK : money_cover(call, attempt->price);
	if (attempt->uncovered && attempt->is_backup)
		tries_pass_over(call, node, true);
	return !attempt->uncovered;
}

static enum call_lack lack_of(enum db_err err)
{
	return err == DB_E_FUNDS ? CALL_LACKS_FUNDS : err == DB_E_LIMIT ? CALL_LACKS_LIMIT : CALL_LACKS_ANSWERS;
}

static void pass_over(struct call *call, const struct route_node *node, enum db_err why)
{
	enum call_lack lack = lack_of(why);
	call->passed_over++;
	if (lack > call->lack)
		call->lack = lack;
	if (node)
		tries_pass_over(call, node, false);
	dispatch_next(call);
}

static void on_room(struct ledger_room *room, enum db_err err)
{
	struct call *call = LIST_OF(room, struct call, room);
	const struct route_node *node = call->asked_node;
	call_enter(call);
	call->asked_node = NULL;
	if (!err)
		err = money_cover(call, call->asked_price);
	if (err) {
		call->asks_refused++;
		log_info("request.price_refused", "id=%s error=%s", call->id, error_name(err));
		pass_over(call, node, err);
	} else {
		if (node)
			dispatch_include(call, node);
		dispatch_next(call);
	}
	call_leave(call);
}

void dearer_chosen(struct call *call, const struct route_decision *decision, struct price price, enum db_err uncovered)
{
	struct fleet_provider_view provider;
	fleet_node_provider(decision->node, &provider);
	record_note_decision(&call->record, decision);
	(void)str_copy(provider.id, call->record.provider, sizeof call->record.provider);
	dispatch_exclude(call, decision->node);
	if (uncovered != DB_E_AGAIN || call->asks_refused >= ASKS_REFUSED_MAX) {
		pass_over(call, decision->node, uncovered);
		return;
	}
	call->asked_price = price;
	call->asked_node = decision->node;
	call->room.done = on_room;
	ledger_room_ask(call->caller.account, call->caller.group, money_uncovered(call, price), &call->room);
}

void dearer_fail(struct call *call)
{
	struct api_error error;
	switch (call->lack) {
	case CALL_LACKS_LIMIT:
		api_fail(&error, 402, "insufficient_quota", NULL, NULL,
		         "The providers of this model that are free cost more than the API key's spend limit leaves: raise the limit.");
		break;
	case CALL_LACKS_ANSWERS:
		api_fail(
		    &error, 503, "service_unavailable", NULL, NULL,
		    "Whether the balance covers what the free providers of this model cost is not known now: try again in a moment.");
		error.retry_after_s = UNKNOWN_RETRY_S;
		break;
	case CALL_LACKS_FUNDS:
	case CALL_LACKS_NOTHING:
		api_fail(&error, 402, "insufficient_funds", "insufficient_quota", NULL,
		         "The providers of this model that are free cost more than the balance covers: add credit.");
		break;
	}
	money_release(call, "reservation_refund");
	call_fail(call, &error);
}
