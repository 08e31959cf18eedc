/* What the sealed transport and blind mode add to a request, beside the clear path. Lines `bench <name> <value> <unit>`. */
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/replay.h"
#include "crypto/secret.h"
#include "wire/blind.h"
#include "wire/envelope.h"
#include "wire/payload.h"

#define SECONDS    0.4
#define BODY_BYTES 2048

struct bench {
	struct box_keypair coordinator;
	struct arena *arena;
	struct replay seen;
	struct buf body, envelope, out;
};

static void must(bool good)
{
	if (!good) {
		fprintf(stderr, "a benchmark's own work failed\n");
		exit(1);
	}
}

/* Everything that the coordinator does only because the body came sealed: the envelope read, the key agreed, the body opened,
 * its id remembered, and an answer of the same size sealed. */
static void sealed_request(struct bench *b)
{
	struct envelope envelope;
	struct sealed_box box;
	struct box_shared shared;
	struct str plain;
	int64_t made_ms;
	b->out.len = 0;
	must(envelope_read(buf_str(&b->envelope), b->arena, &envelope, NULL) == DB_OK);
	must(envelope_decode(envelope.ciphertext, b->arena, &box) == DB_OK);
	must(box_shared_derive(&shared, envelope.sender, b->coordinator.secret_key) == DB_OK);
	must(envelope_open(&box, &shared, &plain) == DB_OK && envelope_time_ms(&box, &made_ms));
	(void)replay_note(&b->seen, envelope_id(&box), clock_mono_us());
	must(wire_append_sealed(&shared, plain, &b->out) == DB_OK);
	arena_reset(b->arena);
}

static void measure(const char *name, void (*work)(struct bench *b), struct bench *b)
{
	uint64_t runs = 0, began = clock_mono_us(), now = began;
	while (now - began < (uint64_t)(SECONDS * 1e6)) {
		for (int i = 0; i < 20; i++)
			work(b);
		runs += 20;
		now = clock_mono_us();
	}
	printf("bench %s %.3f us\n", name, (double)(now - began) / (double)runs);
}

static void make_envelope(struct bench *b)
{
	struct box_keypair consumer;
	struct box_shared shared;
	struct json_writer w;
	char key[WIRE_KEY_B64_LEN + 1];
	buf_append_c(&b->body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"");
	while (b->body.len < BODY_BYTES - 4)
		buf_append_byte(&b->body, 'a');
	buf_append_c(&b->body, "\"}]}");
	box_keypair_new(&consumer);
	wire_key_encode(consumer.public_key, key);
	must(box_shared_derive(&shared, b->coordinator.public_key, consumer.secret_key) == DB_OK);
	json_writer_init(&w, &b->envelope);
	json_begin_object(&w);
	json_put_cstr(&w, "kid", "0123456789abcdef");
	json_put_cstr(&w, "ephemeral_public_key", key);
	json_key(&w, "ciphertext");
	json_raw(&w, STR("\""));
	must(envelope_seal(&shared, clock_wall_us() / 1000, buf_str(&b->body), &b->envelope) == DB_OK);
	buf_append_byte(&b->envelope, '"');
	json_end_object(&w);
}

int main(void)
{
	struct bench b = {.arena = arena_new(0)};
	must(crypto_init() == DB_OK && b.arena);
	box_keypair_new(&b.coordinator);
	replay_init(&b.seen, 600ull * 1000000, 1u << 20);
	buf_init(&b.body, 1u << 16);
	buf_init(&b.envelope, 1u << 16);
	buf_init(&b.out, 1u << 16);
	make_envelope(&b);
	measure("sealed_added_us", sealed_request, &b);
	replay_free(&b.seen);
	buf_free(&b.body);
	buf_free(&b.envelope);
	buf_free(&b.out);
	arena_free(b.arena);
	return 0;
}
