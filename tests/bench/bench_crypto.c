/* What cryptography and JSON cost in processor time: lines `bench <name> <value> <unit>`. Each figure is the best of several
 * rounds, because the machine's other work can only add to it. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/encode.h"
#include "core/id.h"
#include "core/json.h"
#include "crypto/box.h"
#include "crypto/hash.h"
#include "crypto/p256.h"
#include "crypto/secret.h"

#define ROUNDS      15
#define ROUND_US    20000.0
#define BATCH       64
#define PLAIN_BYTES 200

struct bench {
	struct box_keypair ours, theirs;
	struct box_shared shared;
	uint8_t plain[PLAIN_BYTES], sealed[PLAIN_BYTES + BOX_OVERHEAD], opened[PLAIN_BYTES];
	struct p256_key *key;
	uint8_t xy[P256_PUBLIC_BYTES], der[P256_DER_MAX];
	size_t der_len;
	uint8_t block[4096];
	struct arena *arena;
	struct buf text, out;
	char encoded[BASE64_ENCODED_LEN(300)];
	struct json_doc *doc;
};

static void must(bool good)
{
	if (!good) {
		fprintf(stderr, "a benchmark's own work failed\n");
		exit(1);
	}
}

static void keypair_new(struct bench *b)
{
	box_keypair_new(&b->ours);
}

static void shared_derive(struct bench *b)
{
	must(box_shared_derive(&b->shared, b->theirs.public_key, b->ours.secret_key) == DB_OK);
}

static void seal(struct bench *b)
{
	box_seal(&b->shared, b->plain, PLAIN_BYTES, b->sealed);
}

static void open_sealed(struct bench *b)
{
	size_t len;
	must(box_open(&b->shared, b->sealed, sizeof b->sealed, b->opened, &len) == DB_OK);
}

static void sign(struct bench *b)
{
	must(p256_sign(b->key, b->plain, PLAIN_BYTES, b->der, &b->der_len) == DB_OK);
}

static void verify(struct bench *b)
{
	must(p256_verify(b->xy, sizeof b->xy, b->plain, PLAIN_BYTES, b->der, b->der_len) == DB_OK);
}

static void digest(struct bench *b)
{
	sha256(b->block, sizeof b->block, b->block);
}

static void mac(struct bench *b)
{
	hmac_sha256(b->xy, 32, b->plain, PLAIN_BYTES, b->block);
}

static void random_nonce(struct bench *b)
{
	id_random(b->block, BOX_NONCE_BYTES);
}

static void parse_on_heap(struct bench *b)
{
	struct json_doc *doc = json_parse(buf_str(&b->text), NULL, NULL);
	must(doc != NULL);
	json_free(doc);
}

static void parse_in_arena(struct bench *b)
{
	must(json_parse(buf_str(&b->text), b->arena, NULL) != NULL);
	arena_reset(b->arena);
}

static void write_again(struct bench *b)
{
	struct json_writer w;
	b->out.len = 0;
	json_writer_init(&w, &b->out);
	json_value(&w, json_root(b->doc));
	must(!b->out.failed);
}

static void encode(struct bench *b)
{
	must(base64_encode(b->block, 300, b->encoded) == sizeof b->encoded);
}

static void decode(struct bench *b)
{
	must(base64_decode_exact((struct str){b->encoded, sizeof b->encoded}, b->block, 300) == DB_OK);
}

/* A sealed chunk as it comes over the wire. */
static void make_message(struct buf *out)
{
	struct json_writer w;
	uint8_t sealed[140];
	char text[BASE64_ENCODED_LEN(sizeof sealed)];
	id_random(sealed, sizeof sealed);
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_cstr(&w, "type", "inference_response_chunk");
	json_put_cstr(&w, "request_id", "3f0e5b0a-0000-4000-8000-000000000002");
	json_key(&w, "encrypted_data");
	json_begin_object(&w);
	json_put_cstr(&w, "ephemeral_public_key", "e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=");
	json_put_str(&w, "ciphertext", (struct str){text, base64_encode(sealed, sizeof sealed, text)});
	json_end_object(&w);
	json_end_object(&w);
}

static double processor_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void measure(const char *name, void (*work)(struct bench *), struct bench *bench)
{
	double best = 0;
	for (int round = 0; round < ROUNDS; round++) {
		double start = processor_us(), spent, count = 0;
		do {
			for (int i = 0; i < BATCH; i++)
				work(bench);
			count += BATCH;
			spent = processor_us() - start;
		} while (spent < ROUND_US);
		if (round == 0 || spent / count < best)
			best = spent / count;
	}
	printf("bench %s_us %.3f us\n", name, best);
}

int main(void)
{
	static struct bench bench;
	must(crypto_init() == DB_OK);
	box_keypair_new(&bench.ours);
	box_keypair_new(&bench.theirs);
	bench.key = p256_generate();
	bench.arena = arena_new(0);
	must(bench.key && bench.arena);
	p256_public(bench.key, bench.xy);
	id_random(bench.plain, sizeof bench.plain);
	buf_init(&bench.text, 4096);
	buf_init(&bench.out, 4096);
	make_message(&bench.text);
	bench.doc = json_parse(buf_str(&bench.text), NULL, NULL);
	must(bench.doc != NULL);

	measure("box_keypair_new", keypair_new, &bench);
	measure("box_shared_derive", shared_derive, &bench);
	measure("box_seal_200", seal, &bench);
	measure("box_open_200", open_sealed, &bench);
	measure("p256_sign", sign, &bench);
	measure("p256_verify", verify, &bench);
	measure("sha256_4096", digest, &bench);
	measure("hmac_sha256_200", mac, &bench);
	measure("id_random_24", random_nonce, &bench);
	printf("bench json_message_bytes %zu bytes\n", bench.text.len);
	measure("json_parse_heap", parse_on_heap, &bench);
	measure("json_parse_arena", parse_in_arena, &bench);
	measure("json_write", write_again, &bench);
	measure("base64_encode_300", encode, &bench);
	measure("base64_decode_300", decode, &bench);

	json_free(bench.doc);
	buf_free(&bench.text);
	buf_free(&bench.out);
	arena_free(bench.arena);
	p256_free(bench.key);
	return 0;
}
