#include "coordinator/accounts/throttle.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "core/encode.h"
#include "core/list.h"
#include "core/map.h"
#include "crypto/hash.h"

struct entry {
	uint8_t hash[SHA256_BYTES];
	uint32_t failures;
	uint64_t last_us;
	struct list_link age;
};

struct throttle {
	struct map entries;
	struct list by_age; /* the one that failed longest ago first */
	size_t entries_max;
};

struct throttle *throttle_new(size_t entries_max)
{
	struct throttle *throttle = calloc(1, sizeof *throttle);
	if (!throttle)
		return NULL;
	map_init(&throttle->entries);
	list_init(&throttle->by_age);
	throttle->entries_max = entries_max;
	return throttle;
}

static struct str hash_str(const uint8_t hash[SHA256_BYTES])
{
	return (struct str){(const char *)hash, SHA256_BYTES};
}

static void forget(struct throttle *throttle, struct entry *entry)
{
	map_remove(&throttle->entries, hash_str(entry->hash));
	list_remove(&throttle->by_age, &entry->age);
	free(entry);
}

void throttle_free(struct throttle *throttle)
{
	struct list_link *link;
	if (!throttle)
		return;
	while ((link = list_first(&throttle->by_age)))
		forget(throttle, LIST_OF(link, struct entry, age));
	map_free(&throttle->entries);
	free(throttle);
}

static struct entry *find(const struct throttle *throttle, const char *kind, struct str key, uint8_t hash[SHA256_BYTES])
{
	struct sha256_state state;
	sha256_begin(&state);
	sha256_update(&state, kind, strlen(kind) + 1);
	sha256_update(&state, key.at, key.len);
	sha256_end(&state, hash);
	return map_get(&throttle->entries, hash_str(hash));
}

static uint64_t wait_us(const struct throttle_rule *rule, uint32_t failures)
{
	if (failures <= rule->free_tries)
		return 0;
	uint32_t doublings = failures - rule->free_tries - 1;
	uint64_t ms = doublings >= 31 ? rule->longest_ms : (uint64_t)rule->first_ms << doublings;
	return 1000 * (ms > rule->longest_ms ? rule->longest_ms : ms);
}

uint32_t throttle_wait_ms(const struct throttle *throttle, const struct throttle_rule *rule, const char *kind, struct str key,
                          uint64_t now_us)
{
	uint8_t hash[SHA256_BYTES];
	const struct entry *entry = find(throttle, kind, key, hash);
	if (!entry || now_us - entry->last_us >= rule->forget_ms * UINT64_C(1000))
		return 0;
	uint64_t until_us = entry->last_us + wait_us(rule, entry->failures);
	return until_us > now_us ? (uint32_t)((until_us - now_us + 999) / 1000) : 0;
}

void throttle_failed(struct throttle *throttle, const struct throttle_rule *rule, const char *kind, struct str key,
                     uint64_t now_us)
{
	uint8_t hash[SHA256_BYTES];
	struct entry *entry = find(throttle, kind, key, hash);
	if (entry && now_us - entry->last_us >= rule->forget_ms * UINT64_C(1000))
		entry->failures = 0;
	if (entry) {
		list_remove(&throttle->by_age, &entry->age);
	} else {
		if (throttle->entries.count >= throttle->entries_max)
			forget(throttle, LIST_OF(list_first(&throttle->by_age), struct entry, age));
		entry = calloc(1, sizeof *entry);
		if (!entry)
			return;
		memcpy(entry->hash, hash, sizeof entry->hash);
		if (map_put(&throttle->entries, hash_str(entry->hash), entry, NULL)) {
			free(entry);
			return;
		}
	}
	entry->failures++;
	entry->last_us = now_us;
	list_push_back(&throttle->by_age, &entry->age);
}

void throttle_forgive(struct throttle *throttle, const char *kind, struct str key)
{
	uint8_t hash[SHA256_BYTES];
	struct entry *entry = find(throttle, kind, key, hash);
	if (entry)
		forget(throttle, entry);
}

void throttle_take_back(struct throttle *throttle, const char *kind, struct str key)
{
	uint8_t hash[SHA256_BYTES];
	struct entry *entry = find(throttle, kind, key, hash);
	if (entry && --entry->failures == 0)
		forget(throttle, entry);
}

size_t throttle_count(const struct throttle *throttle)
{
	return throttle->entries.count;
}

struct str throttle_net(struct str address, char out[THROTTLE_NET_SIZE])
{
	uint8_t bytes[16];
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	if (!str_copy(address, out, THROTTLE_NET_SIZE))
		return STR("unknown");
	if (inet_pton(AF_INET6, out, bytes) != 1)
		return str_of(out);
	bool is_v4 = memcmp(bytes, mapped, sizeof mapped) == 0;
	if (is_v4)
		return (void)inet_ntop(AF_INET, bytes + 12, out, THROTTLE_NET_SIZE), str_of(out);
	hex_encode(bytes, 8, out);
	return str_of(out);
}
