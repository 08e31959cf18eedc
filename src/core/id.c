#include "core/id.h"

#include "core/clock.h"
#include "core/encode.h"
#include "core/wipe.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define POOL_BYTES     4096
#define GETENTROPY_MAX 256

/* Random bytes fetched ahead. What has been handed out is wiped, so no later reader of this memory learns it. */
static _Thread_local struct {
	uint8_t bytes[POOL_BYTES];
	size_t left; /* unused bytes, at the end of `bytes` */
} pool;

static pthread_once_t fork_guard = PTHREAD_ONCE_INIT;

/* A forked child has only the thread that forked, and must not draw the same bytes as its parent. */
static void drop_pool(void)
{
	wipe(pool.bytes, sizeof pool.bytes);
	pool.left = 0;
}

static void install_fork_guard(void)
{
	if (pthread_atfork(NULL, NULL, drop_pool) != 0)
		abort();
}

/* A system without a random source cannot run this program safely at all. */
static void from_system(uint8_t *out, size_t len)
{
	for (size_t at = 0; at < len; at += GETENTROPY_MAX)
		if (getentropy(out + at, len - at < GETENTROPY_MAX ? len - at : GETENTROPY_MAX) != 0)
			abort();
}

void id_random(void *out, size_t len)
{
	if (len > POOL_BYTES / 4) {
		from_system(out, len);
		return;
	}
	if (len > pool.left) {
		pthread_once(&fork_guard, install_fork_guard);
		from_system(pool.bytes, POOL_BYTES);
		pool.left = POOL_BYTES;
	}
	uint8_t *from = pool.bytes + POOL_BYTES - pool.left;
	memcpy(out, from, len);
	wipe(from, len);
	pool.left -= len;
}

static void write_uuid(uint8_t raw[16], uint8_t version, char out[ID_UUID_SIZE])
{
	char hex[33];
	raw[6] = (uint8_t)((raw[6] & 0x0f) | version << 4);
	raw[8] = (uint8_t)((raw[8] & 0x3f) | 0x80);
	hex_encode(raw, 16, hex);
	char *to = out;
	for (size_t i = 0; i < 32; i++) {
		if (i == 8 || i == 12 || i == 16 || i == 20)
			*to++ = '-';
		*to++ = hex[i];
	}
	*to = '\0';
}

void id_uuid4(char out[ID_UUID_SIZE])
{
	uint8_t raw[16];
	id_random(raw, sizeof raw);
	write_uuid(raw, 4, out);
}

void id_uuid7(char out[ID_UUID_SIZE])
{
	uint8_t raw[16];
	id_random(raw, sizeof raw);
	uint64_t ms = (uint64_t)clock_wall_us() / 1000;
	for (size_t i = 0; i < 6; i++)
		raw[i] = (uint8_t)(ms >> (40 - 8 * i));
	write_uuid(raw, 7, out);
}

void id_request(char out[ID_REQUEST_SIZE])
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
	uint8_t raw[ID_REQUEST_SIZE - 1];
	id_random(raw, sizeof raw);
	for (size_t i = 0; i < sizeof raw; i++)
		out[i] = digits[raw[i] & 31];
	out[sizeof raw] = '\0';
}

void id_hex(char *out, size_t random_bytes)
{
	uint8_t raw[64];
	for (size_t done = 0; done < random_bytes;) {
		size_t part = random_bytes - done < sizeof raw ? random_bytes - done : sizeof raw;
		id_random(raw, part);
		hex_encode(raw, part, out + 2 * done);
		done += part;
	}
	out[2 * random_bytes] = '\0';
	wipe(raw, sizeof raw);
}
