#include "coordinator/money/receipt_signer.h"

#include <stdlib.h>

#include "core/encode.h"
#include "core/log.h"

#define IDLE_MS    100 /* between two looks when nothing is due */
#define BUSY_MS    32  /* behind a batch (about 4 ms of work) while the store is busy */
#define BUSY_OPS   200 /* queued in the store */
#define FAILED_MS  5000
#define REFRESH_MS 60000 /* other coordinators publish keys, too */

static void on_time(struct net_timer *timer);
static void on_refresh(struct net_timer *timer);

struct receipt receipt_of(const struct store_settlement *row, uint64_t version)
{
	return (struct receipt){.version = version,
	                        .request_id = str_of(row->request_id),
	                        .account_id = str_of(row->account_id),
	                        .key_id = str_of(row->key_id),
	                        .provider_id = str_of(row->provider_id),
	                        .model = str_of(row->model),
	                        .public_model = str_of(row->public_model),
	                        .outcome = str_of(row->outcome),
	                        .tokens = {row->prompt_tokens, row->completion_tokens, row->cached_tokens},
	                        .reasoning_tokens = row->reasoning_tokens,
	                        .price = {row->price_in, row->price_out, row->price_cached},
	                        .service = row->service,
	                        .hold_uusd = row->hold_uusd,
	                        .cost_uusd = row->cost_uusd,
	                        .fee_uusd = row->fee_uusd,
	                        .payout_uusd = row->cost_uusd - row->fee_uusd,
	                        .created_us = row->created_us,
	                        .job_id = str_of(row->job_id),
	                        .response_hash = str_of(row->response_hash),
	                        .provider_key = str_of(row->se_public_key),
	                        .provider_signature = str_of(row->se_signature),
	                        .reported_tokens = row->reported_tokens,
	                        .consumer_key = str_of(row->consumer_key),
	                        .reported_prompt_tokens = row->reported_prompt_tokens,
	                        .reported_reasoning_tokens = row->reported_reasoning_tokens};
}

enum db_err receipt_document(const struct store_receipt *stored, const struct p256_key *key, struct buf *out)
{
	uint8_t public_key[P256_PUBLIC_BYTES];
	struct receipt receipt = receipt_of(&stored->s, stored->signature[0] ? stored->version : RECEIPT_VERSION);
	if (!stored->signature[0])
		return receipt_write(&receipt, key, out);
	enum db_err err = base64_decode_exact(str_of(stored->key.public_key), public_key, sizeof public_key);
	return err ? err : receipt_put(&receipt, public_key, str_of(stored->signature), out);
}

/* --- a batch --- */

static void again(struct receipt_signer *signer, uint64_t after_ms)
{
	if (!signer->stopped)
		net_timer_start(signer->loop, &signer->timer, after_ms, 0, on_time);
}

static void sign_one(struct store_receipt *stored, const struct p256_key *key)
{
	struct buf signature;
	struct receipt receipt = receipt_of(&stored->s, RECEIPT_VERSION);
	buf_init(&signature, sizeof stored->signature);
	stored->version = RECEIPT_VERSION;
	if (receipt_sign(&receipt, key, &signature) ||
	    !str_copy(buf_str(&signature), stored->signature, sizeof stored->signature)) {
		stored->signature[0] = '\0';
		log_error("receipt.unsigned", "request=%s", stored->s.request_id);
	}
	buf_free(&signature);
}

static void sign_batch(void *arg)
{
	struct receipt_signer *signer = arg;
	for (size_t i = 0; i < signer->batch->count; i++)
		sign_one(&signer->batch->receipts[i], signer->key);
}

static void on_stored(const struct error *error, void *user)
{
	struct receipt_signer *signer = user;
	struct store_stats stats;
	if (error) {
		log_warn("receipt.failed", "why=\"%s\"", error->text);
		again(signer, FAILED_MS);
	} else if (!signer->stopped) {
		store_stats(signer->store, &stats);
		again(signer, stats.queued > BUSY_OPS ? BUSY_MS : 0);
	}
}

static void on_signed(void *arg)
{
	struct receipt_signer *signer = arg;
	struct store_receipts_due *batch = signer->batch;
	signer->batch = NULL;
	if (signer->stopped) {
		free(batch);
		return;
	}
	signer->signed_count += batch->count;
	store_receipts_put(signer->store, batch, str_of(signer->kid), on_stored, signer);
}

static void on_due(struct store_receipts_due *due, const struct error *error, void *user)
{
	struct receipt_signer *signer = user;
	if (!due || signer->stopped) {
		free(due);
		again(signer, error ? FAILED_MS : IDLE_MS);
		return;
	}
	signer->batch = due;
	net_work(signer->loop, sign_batch, on_signed, signer);
}

static void on_time(struct net_timer *timer)
{
	struct receipt_signer *signer = LIST_OF(timer, struct receipt_signer, timer);
	store_receipts_due(signer->store, on_due, signer);
}

/* --- keys --- */

static void on_keys(const struct store_receipt_key *keys, size_t count, const struct error *error, void *user)
{
	struct receipt_signer *signer = user;
	if (!error) {
		signer->key_count = count < RECEIPT_KEYS_MAX ? count : RECEIPT_KEYS_MAX;
		if (count)
			memcpy(signer->keys, keys, signer->key_count * sizeof *keys);
	}
	if (!signer->stopped)
		net_timer_start(signer->loop, &signer->refresh, REFRESH_MS, 0, on_refresh);
}

static void on_refresh(struct net_timer *timer)
{
	struct receipt_signer *signer = LIST_OF(timer, struct receipt_signer, refresh);
	store_receipt_keys_list(signer->store, on_keys, signer);
}

static void publish(struct receipt_signer *signer)
{
	uint8_t public_key[P256_PUBLIC_BYTES];
	struct store_receipt_key published = {.created_us = 0};
	p256_public(signer->key, public_key);
	receipt_kid(public_key, signer->kid);
	memcpy(published.kid, signer->kid, sizeof published.kid);
	size_t len = base64_encode(public_key, sizeof public_key, published.public_key);
	published.public_key[len] = '\0';
	signer->keys[0] = published;
	signer->key_count = 1;
	store_receipt_key_add(signer->store, &published, NULL, NULL);
	store_receipt_keys_list(signer->store, on_keys, signer);
}

void receipt_signer_start(struct receipt_signer *signer, struct net_loop *loop, struct store *store, const struct p256_key *key)
{
	*signer = (struct receipt_signer){.loop = loop, .store = store, .key = key};
	publish(signer);
	again(signer, IDLE_MS);
}

void receipt_signer_stop(struct receipt_signer *signer)
{
	signer->stopped = true;
	if (!signer->loop)
		return;
	net_timer_stop(&signer->timer);
	net_timer_stop(&signer->refresh);
}
