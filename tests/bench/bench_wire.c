/* What the wire costs: chunks on their way in and out, heartbeats, signatures. Lines `bench <name> <value> <unit>`. */
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/encode.h"
#include "crypto/secret.h"
#include "wire/attestation.h"
#include "wire/message.h"
#include "wire/payload.h"

#define SECONDS 0.4

struct bench {
	struct box_shared shared;
	struct arena *arena;
	struct buf chunk, other_chunk, heartbeat, attestation, out;
	struct p256_key *key;
};

static const char frame[] =
    "data: "
    "{\"id\":\"chatcmpl-3f0e5b0a\",\"object\":\"chat.completion.chunk\",\"created\":1767323045,\"model\":\"acme/tiny-4bit\","
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" network\"},\"finish_reason\":null}]}\n\n";
#define REQUEST_ID STR("3f0e5b0a-0000-4000-8000-000000000002")
#define K_PUB      STR("e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=")

static void must(bool good)
{
	if (!good) {
		fprintf(stderr, "a benchmark's own work failed\n");
		exit(1);
	}
}

static void decode_and_open(struct bench *b)
{
	struct wire_message message;
	must(wire_decode(buf_str(&b->chunk), b->arena, &message, NULL) == DB_OK);
	b->out.len = 0;
	must(wire_payload_open(&b->shared, message.as.chunk.encrypted_data.ciphertext, &b->out) == DB_OK);
}

static void peek(struct bench *b)
{
	struct wire_chunk chunk;
	must(wire_chunk_peek(buf_str(&b->chunk), &chunk));
}

static void decode_general(struct bench *b)
{
	struct wire_message message;
	must(wire_decode(buf_str(&b->other_chunk), b->arena, &message, NULL) == DB_OK);
	arena_reset(b->arena);
}

static void seal_and_encode(struct bench *b)
{
	b->out.len = 0;
	must(wire_seal_chunk(&b->shared, REQUEST_ID, K_PUB, STR(frame), &b->out) == DB_OK);
}

static void decode_heartbeat(struct bench *b)
{
	struct wire_message message;
	must(wire_decode(buf_str(&b->heartbeat), b->arena, &message, NULL) == DB_OK);
	arena_reset(b->arena);
}

static void verify_attestation(struct bench *b)
{
	struct attestation_result result;
	attestation_verify(buf_str(&b->attestation), STR_NONE, b->arena, &result);
	must(result.verdict == ATTESTATION_VALID);
	arena_reset(b->arena);
}

static void measure(const char *name, void (*work)(struct bench *), struct bench *b)
{
	uint64_t rounds = 0, start = clock_mono_us(), now;
	do {
		for (int i = 0; i < 100; i++)
			work(b);
		rounds += 100;
		now = clock_mono_us();
	} while ((double)(now - start) < SECONDS * 1e6);
	printf("bench %s %.3f us\n", name, (double)(now - start) / (double)rounds);
}

static void make_heartbeat(struct bench *b)
{
	struct wire_slot slots[3];
	struct str warm[3];
	for (size_t i = 0; i < 3; i++) {
		warm[i] = STR("mlx-community/Qwen3.5-4B-4bit");
		slots[i] = (struct wire_slot){.model = warm[i],
		                              .state = WIRE_SLOT_RUNNING,
		                              .num_running = 2,
		                              .active_tokens = 2100,
		                              .max_tokens_potential = 8192,
		                              .max_concurrency = 8,
		                              .observed_decode_tps = 48.25,
		                              .observed_prefill_tps = 911.5,
		                              .active_token_budget_used = 2100,
		                              .active_token_budget_max = 65536,
		                              .kv_bytes_per_token = 98304,
		                              .model_load_time_ms = 2500};
	}
	struct wire_message message = {.type = WIRE_HEARTBEAT};
	struct wire_heartbeat *beat = &message.as.heartbeat;
	beat->status = WIRE_SERVING;
	beat->active_model = warm[0];
	beat->stats = (struct wire_stats){.requests_served = 1200, .tokens_generated = 480000, .cancellations_received = 4};
	beat->warm_models = (struct wire_strings){warm, 3};
	beat->memory_pressure = 0.41;
	beat->cpu_usage = 0.13;
	beat->thermal_state = WIRE_THERMAL_NOMINAL;
	beat->has_capacity = true;
	beat->capacity = (struct wire_capacity){.slots = slots,
	                                        .slot_count = 3,
	                                        .gpu_memory_active_gb = 12.5,
	                                        .gpu_memory_peak_gb = 20.25,
	                                        .total_memory_gb = 64,
	                                        .has_free_for_load = true,
	                                        .free_for_load_gb = 38.5};
	must(wire_encode(&message, &b->heartbeat) == DB_OK);
}

static void make_attestation(struct bench *b)
{
	uint8_t xy[P256_PUBLIC_BYTES];
	char public_key[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES)];
	struct wire_signer signer = wire_signer_of(b->key);
	p256_public(b->key, xy);
	struct attestation_blob blob = {.platform = ATTESTATION_LINUX,
	                                .key_protection = ATTESTATION_SOFTWARE,
	                                .public_key = {public_key, base64_encode(xy, sizeof xy, public_key)},
	                                .timestamp = STR("2026-01-02T03:04:05Z")};
	must(attestation_sign(&blob, &signer, &b->attestation) == DB_OK);
}

int main(void)
{
	struct bench b = {0};
	struct box_keypair here, there;
	must(crypto_init() == DB_OK);
	b.arena = arena_new(0);
	b.key = p256_generate();
	must(b.arena && b.key);
	buf_init(&b.chunk, 1u << 20);
	buf_init(&b.other_chunk, 1u << 20);
	buf_init(&b.heartbeat, 1u << 20);
	buf_init(&b.attestation, 1u << 20);
	buf_init(&b.out, 1u << 20);
	box_keypair_new(&here);
	box_keypair_new(&there);
	must(box_shared_derive(&b.shared, there.public_key, here.secret_key) == DB_OK);
	must(wire_seal_chunk(&b.shared, REQUEST_ID, K_PUB, STR(frame), &b.chunk) == DB_OK);
	buf_append_byte(&b.other_chunk, ' '); /* enough to leave the fast path */
	must(buf_append_str(&b.other_chunk, buf_str(&b.chunk)) == DB_OK);
	make_heartbeat(&b);
	make_attestation(&b);

	measure("wire_chunk_peek_us", peek, &b);
	measure("wire_chunk_decode_open_us", decode_and_open, &b);
	measure("wire_chunk_general_decode_us", decode_general, &b);
	measure("wire_chunk_seal_encode_us", seal_and_encode, &b);
	measure("wire_heartbeat_decode_us", decode_heartbeat, &b);
	measure("wire_attestation_verify_us", verify_attestation, &b);

	buf_free(&b.chunk);
	buf_free(&b.other_chunk);
	buf_free(&b.heartbeat);
	buf_free(&b.attestation);
	buf_free(&b.out);
	p256_free(b.key);
	arena_free(b.arena);
	return 0;
}
