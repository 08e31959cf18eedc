/* POST /v1/blind/offer: who could take a request that nobody here may read, with what is needed to check them. */
#include "coordinator/gateway/blind.h"
#include "coordinator/gateway/call.h"

#include "core/clock.h"

#include <stdlib.h>

void blind_offers_init(struct blind_offers *offers)
{
	map_init(&offers->by_id);
	list_init(&offers->order);
}

static void drop_first(struct blind_offers *offers)
{
	struct blind_offer *offer = LIST_OF(list_pop_front(&offers->order), struct blind_offer, link);
	map_remove(&offers->by_id, str_of(offer->id));
	free(offer);
}

void blind_offers_free(struct blind_offers *offers)
{
	while (offers->order.count)
		drop_first(offers);
	map_free(&offers->by_id);
}

static void drop_expired(struct gateway *gateway)
{
	struct blind_offers *offers = &gateway->blind_offers;
	uint64_t now = net_now_us(gateway->options.loop);
	while (offers->order.count && LIST_OF(offers->order.head.next, struct blind_offer, link)->expires_us <= now)
		drop_first(offers);
}

const struct blind_offer *blind_offer_find(struct gateway *gateway, struct str id, const struct ledger_account *account)
{
	drop_expired(gateway);
	const struct blind_offer *offer = map_get(&gateway->blind_offers.by_id, id);
	return offer && offer->account == account ? offer : NULL;
}

/* --- making one --- */

struct making {
	struct gateway *gateway;
	struct blind_offer *offer;
	struct json_writer w;
	bool service;
	struct wishes wishes;
};

static void put_price(struct json_writer *w, struct price price)
{
	json_key(w, "pricing");
	json_begin_object(w);
	json_put_i64(w, "prompt_micro_usd_per_million", price.input);
	json_put_i64(w, "completion_micro_usd_per_million", price.output);
	json_end_object(w);
}

static void put_candidate(const struct fleet_provider_view *view, double ttft_ms, void *user)
{
	struct making *m = user;
	struct json_writer *w = &m->w;
	struct blind_candidate *candidate = &m->offer->candidates[m->offer->count];
	if (!str_copy(view->id, candidate->provider_id, sizeof candidate->provider_id))
		return;
	m->offer->count++;
	bool own = wishes_granted(&m->wishes, str_of(ledger_account_id(m->offer->account)), view);
	candidate->price =
	    own ? (struct price){0} : ledger_price(m->gateway->options.ledger, view->account, str_of(m->offer->model), m->service);
	json_begin_object(w);
	json_put_str(w, "provider_id", view->id);
	json_put_str(w, "encryption_public_key", view->encryption_public_key);
	json_put_str(w, "se_public_key", view->se_public_key);
	json_put_cstr(w, "trust_level", route_trust_name(view->trust));
	json_put_str(w, "platform", view->platform);
	json_put_str(w, "key_protection", view->key_protection);
	json_put_str(w, "chip_name", view->chip_name);
	if (view->region.len)
		json_put_str(w, "region", view->region);
	if (own)
		json_put_bool(w, "own", true);
	json_put_str(w, "attestation", view->attestation);
	put_price(w, candidate->price);
	struct price_tokens most = {(uint64_t)m->offer->ask.max_prompt_tokens, (uint64_t)m->offer->ask.max_tokens, 0};
	int64_t hold = own ? 0 : price_cost(candidate->price, most, m->service);
	json_put_i64(w, "max_cost_micro_usd", hold);
	if (ttft_ms >= 0)
		json_put_i64(w, "expected_first_token_ms", (int64_t)ttft_ms);
	json_end_object(w);
}

static void put_head(struct making *m)
{
	struct json_writer *w = &m->w;
	const struct blind_offer *offer = m->offer;
	json_begin_object(w);
	json_put_str(w, "object", STR("blind.offer"));
	json_put_cstr(w, "id", offer->id);
	json_put_cstr(w, "model", offer->model);
	json_put_i64(w, "expires_at", clock_wall_us() / 1000000 + BLIND_OFFER_MS / 1000);
	json_put_i64(w, "prompt_tokens", offer->ask.prompt_tokens);
	json_put_i64(w, "max_prompt_tokens", offer->ask.max_prompt_tokens);
	json_put_i64(w, "max_tokens", offer->ask.max_tokens);
	json_key(w, "candidates");
	json_begin_array(w);
}

static struct blind_offer *offer_new(const struct gateway *gateway, const struct exchange *exchange,
                                     const struct blind_ask *ask, const struct wishes *wishes)
{
	struct blind_offer *offer = calloc(1, sizeof *offer);
	if (!offer)
		return NULL;
	memcpy(offer->id, "blind_", 6);
	id_hex(offer->id + 6, 12);
	(void)str_copy(ask->model, offer->model, sizeof offer->model);
	offer->ask = *ask;
	offer->ask.model = str_of(offer->model);
	offer->account = exchange->caller.account;
	offer->own_only = wishes->own_only;
	offer->prefers_own = wishes->prefers_own;
	offer->min_trust = wishes->min_trust;
	for (; offer->region_count < wishes->places.region_count; offer->region_count++)
		(void)str_copy(wishes->places.regions[offer->region_count], offer->regions[offer->region_count], REGION_SIZE);
	offer->expires_us = net_now_us(gateway->options.loop) + (uint64_t)BLIND_OFFER_MS * 1000;
	return offer;
}

static enum db_err keep(struct blind_offers *offers, struct blind_offer *offer)
{
	if (offers->order.count >= BLIND_OFFERS_MAX)
		drop_first(offers);
	enum db_err err = map_put(&offers->by_id, str_of(offer->id), offer, NULL);
	if (!err)
		list_push_back(&offers->order, &offer->link);
	return err;
}

static void refuse_unroutable(struct making *m, struct exchange *exchange, enum db_err err,
                              const struct route_decision *decision)
{
	struct gateway *gateway = m->gateway;
	struct str account = str_of(ledger_account_id(exchange->caller.account));
	struct api_error error;
	struct record record;
	if (err == DB_E_AGAIN)
		api_fail(&error, 429, m->wishes.own_only ? "machine_busy" : "rate_limit_exceeded", NULL, NULL,
		         "Every provider that could take this sealed request is busy: ask again in a moment.");
	else if (wishes_explain(&m->wishes, gateway->options.fleet, account, str_of(m->offer->model), &error))
		(void)account;
	else if (decision->considered == 0)
		api_fail(&error, 404, "model_not_found", NULL, "model", "No provider serves a model of this name.");
	else if (decision->by_gate[ROUTE_REGION] > 0)
		api_fail(&error, 503, "model_unavailable", "region_unavailable", NULL,
		         "No provider of this model in the regions that were asked for can take a sealed request now.");
	else
		api_fail(&error, 503, "model_unavailable", NULL, "model",
		         "No provider of this model can take a sealed request now: ask again, or send it without blind mode.");
	if (error.status != 404 && !error.retry_after_s)
		error.retry_after_s = 2;
	record_init(&record);
	record.blind = true;
	(void)str_copy(str_of(m->offer->model), record.public_model, sizeof record.public_model);
	record.prompt_tokens = (uint64_t)m->offer->ask.prompt_tokens;
	record.max_tokens = (uint64_t)m->offer->ask.max_tokens;
	record_note_decision(&record, decision);
	wishes_note(&m->wishes, &record);
	keep_refused(gateway, exchange, &error, &record);
	exchange_error(exchange, &error);
}

void gateway_blind_offer(struct gateway *gateway, struct exchange *exchange)
{
	struct blind_offer_request request;
	struct route_decision decision = {0};
	struct api_error error;
	struct buf body;
	struct making making = {.gateway = gateway, .service = ledger_account_is_service(exchange->caller.account)};
	if (!blind_offer_parse(exchange_body(exchange), http_arena(exchange->http), &request, &error) ||
	    !wishes_read(&making.wishes, exchange, &request.places, &error)) {
		exchange_error(exchange, &error);
		return;
	}
	if (request.ask.model.len >= ROUTE_MODEL_SIZE) {
		api_fail(&error, 404, "model_not_found", NULL, "model", "No model has so long a name.");
		exchange_error(exchange, &error);
		return;
	}
	drop_expired(gateway);
	struct blind_offer *offer = offer_new(gateway, exchange, &request.ask, &making.wishes);
	if (!offer) {
		api_fail(&error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
		exchange_error(exchange, &error);
		return;
	}
	making.offer = offer;
	uint64_t prompt_tokens = (uint64_t)offer->ask.prompt_tokens;
	struct route_request route = {.model = offer->ask.model,
	                              .prompt_tokens = prompt_tokens,
	                              .max_tokens = fleet_model_room(gateway->options.fleet, offer->ask.model, prompt_tokens,
	                                                             (uint64_t)offer->ask.max_tokens),
	                              .caller_account = str_of(ledger_account_id(exchange->caller.account))};
	wishes_ask(&making.wishes, &route);
	buf_init(&body, 1u << 20);
	json_writer_init(&making.w, &body);
	put_head(&making);
	enum db_err err = fleet_blind_candidates(gateway->options.fleet, &route, request.count, put_candidate, &making, &decision);
	json_end_array(&making.w);
	json_end_object(&making.w);
	if (err || offer->count == 0) {
		refuse_unroutable(&making, exchange, err, &decision);
		free(offer);
	} else if (body.failed || keep(&gateway->blind_offers, offer)) {
		free(offer);
		api_fail(&error, 503, "service_unavailable", NULL, NULL, "The offer needs more memory than there is.");
		exchange_error(exchange, &error);
	} else {
		exchange_json(exchange, 200, buf_str(&body));
	}
	buf_free(&body);
}
