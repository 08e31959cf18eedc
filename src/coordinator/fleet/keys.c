/* Request keys made ahead, so that no request waits for X25519 (design 4). A provider gets a pool when it first has traffic;
 * the pool doubles while requests find it empty and goes when nobody used it for a while. One worker job at a time fills the
 * pools that are below half, many providers in one job. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/clock.h"
#include "crypto/secret.h"

#define POOL_FIRST   2
#define POOL_MAX     256
#define BATCH_KEYS   64
#define POOL_IDLE_US (60ull * 1000000)
#define POOL_NEAR_US (10ull * 1000000) /* requests this near to each other make keys in stock worth their work */

struct key_pool {
	struct list_link used;   /* in fleet->pools, longest unused first */
	struct list_link hungry; /* in fleet->hungry */
	struct session *session; /* NULL: gone, and the batch in flight frees the pool */
	uint64_t last_us;
	uint32_t target, count, coming;
	struct request_key *keys; /* `target` of them */
};

struct batch_key {
	struct key_pool *pool;
	uint8_t peer[BOX_KEY_BYTES];
	struct request_key key;
	enum db_err made;
};

struct key_batch {
	struct fleet *fleet; /* NULL: stopped */
	size_t count;
	struct batch_key keys[BATCH_KEYS];
};

static enum db_err make_key(const uint8_t peer[BOX_KEY_BYTES], struct request_key *out)
{
	struct box_keypair pair;
	box_keypair_new(&pair);
	enum db_err err = box_shared_derive(&out->shared, peer, pair.secret_key);
	wire_key_encode(pair.public_key, out->public_b64);
	secret_wipe(&pair, sizeof pair);
	return err;
}

static bool peer_key(const struct session *session, uint8_t out[BOX_KEY_BYTES])
{
	return wire_key_decode(session_text(session, TEXT_PUBLIC_KEY), out) == DB_OK;
}

/* --- pools --- */

static void pool_free(struct key_pool *pool)
{
	secret_wipe(pool->keys, pool->target * sizeof *pool->keys);
	free(pool->keys);
	free(pool);
}

static struct key_pool *pool_new(struct session *session)
{
	struct key_pool *pool = calloc(1, sizeof *pool);
	if (!pool)
		return NULL;
	pool->keys = calloc(POOL_FIRST, sizeof *pool->keys);
	if (!pool->keys) {
		free(pool);
		return NULL;
	}
	pool->target = POOL_FIRST;
	pool->session = session;
	list_push_back(&session->fleet->pools, &pool->used);
	return pool;
}

static void pool_grow(struct key_pool *pool)
{
	uint32_t target = pool->target * 2;
	struct request_key *grown = target > POOL_MAX ? NULL : calloc(target, sizeof *grown);
	if (!grown)
		return;
	memcpy(grown, pool->keys, pool->count * sizeof *grown);
	secret_wipe(pool->keys, pool->target * sizeof *pool->keys);
	free(pool->keys);
	pool->keys = grown;
	pool->target = target;
}

void keys_free(struct session *session)
{
	struct key_pool *pool = session->keys;
	session->keys = NULL;
	if (!pool)
		return;
	list_remove(&session->fleet->pools, &pool->used);
	list_remove(&session->fleet->hungry, &pool->hungry);
	pool->session = NULL;
	if (!pool->coming)
		pool_free(pool);
}

void keys_sweep(struct fleet *fleet)
{
	uint64_t now_us = net_now_us(fleet->loop);
	for (struct list_link *link; (link = list_first(&fleet->pools));) {
		struct key_pool *pool = LIST_OF(link, struct key_pool, used);
		if (pool->last_us + POOL_IDLE_US > now_us)
			return;
		keys_free(pool->session);
	}
}

/* --- filling --- */

static void make_batch(void *arg)
{
	struct key_batch *batch = arg;
	for (size_t i = 0; i < batch->count; i++)
		batch->keys[i].made = make_key(batch->keys[i].peer, &batch->keys[i].key);
}

static void start_batch(struct fleet *fleet);

static void deliver(struct batch_key *made)
{
	struct key_pool *pool = made->pool;
	pool->coming--;
	if (!pool->session) {
		if (!pool->coming)
			pool_free(pool);
		return;
	}
	if (!made->made && pool->count < pool->target)
		pool->keys[pool->count++] = made->key;
}

static void batch_done(void *arg)
{
	struct key_batch *batch = arg;
	struct fleet *fleet = batch->fleet;
	for (size_t i = 0; i < batch->count; i++)
		deliver(&batch->keys[i]);
	secret_wipe(batch, sizeof *batch);
	free(batch);
	if (!fleet)
		return;
	fleet->batch = NULL;
	start_batch(fleet);
}

static uint32_t missing(const struct key_pool *pool)
{
	uint32_t have = pool->count + pool->coming;
	return pool->target > have ? pool->target - have : 0;
}

static void add_to_batch(struct key_batch *batch, struct key_pool *pool)
{
	uint8_t peer[BOX_KEY_BYTES];
	if (!peer_key(pool->session, peer))
		return;
	for (uint32_t left = missing(pool); left && batch->count < BATCH_KEYS; left--) {
		struct batch_key *key = &batch->keys[batch->count++];
		key->pool = pool;
		memcpy(key->peer, peer, sizeof peer);
		pool->coming++;
	}
}

static void start_batch(struct fleet *fleet)
{
	if (fleet->batch || !fleet->hungry.count)
		return;
	struct key_batch *batch = calloc(1, sizeof *batch);
	if (!batch)
		return; /* requests make their own keys meanwhile */
	batch->fleet = fleet;
	while (fleet->hungry.count && batch->count < BATCH_KEYS) {
		struct key_pool *pool = LIST_OF(list_pop_front(&fleet->hungry), struct key_pool, hungry);
		add_to_batch(batch, pool);
		if (missing(pool) && batch->count == BATCH_KEYS)
			list_push_back(&fleet->hungry, &pool->hungry);
	}
	if (!batch->count) {
		free(batch);
		return;
	}
	fleet->batch = batch;
	net_work(fleet->loop, make_batch, batch_done, batch);
}

void keys_stop(struct fleet *fleet)
{
	if (fleet->batch)
		fleet->batch->fleet = NULL;
	fleet->batch = NULL;
}

/* --- taking --- */

static enum db_err make_now(struct session *session, struct request_key *out)
{
	uint8_t peer[BOX_KEY_BYTES];
	struct fleet_metrics *metrics = &session->fleet->metrics;
	if (!peer_key(session, peer))
		return DB_E_CRYPTO;
	uint64_t began = clock_thread_cpu_us();
	enum db_err err = make_key(peer, out);
	metric_add(metrics->keys_inline, 1);
	metric_add(metrics->keys_inline_us, clock_thread_cpu_us() - began);
	return err;
}

enum db_err keys_take(struct session *session, struct request_key *out)
{
	struct fleet *fleet = session->fleet;
	uint64_t now_us = net_now_us(fleet->loop);
	bool near = session->last_job_us && session->last_job_us + POOL_NEAR_US > now_us;
	session->last_job_us = now_us;
	if (!session->keys && near)
		session->keys = pool_new(session);
	struct key_pool *pool = session->keys;
	if (!pool)
		return make_now(session, out);
	pool->last_us = now_us;
	list_remove(&fleet->pools, &pool->used);
	list_push_back(&fleet->pools, &pool->used);
	bool empty = pool->count == 0;
	if (empty && pool->coming)
		pool_grow(pool);
	if (!empty) {
		*out = pool->keys[--pool->count];
		secret_wipe(&pool->keys[pool->count], sizeof *pool->keys);
		metric_add(fleet->metrics.keys_ready, 1);
	}
	if (pool->count + pool->coming <= pool->target / 2 && !list_linked(&pool->hungry)) {
		list_push_back(&fleet->hungry, &pool->hungry);
		start_batch(fleet);
	}
	return empty ? make_now(session, out) : DB_OK;
}
