/* Names of a request's prompt and of what it begins with, for providers to say again as long as they keep it
 * (docs/reference/prefix-names.md).
 *
 * A name is 64 bits of a running SHA-256 that begins with a secret of this coordinator and the account, and goes on message by
 * message. Without the secret nobody can test a guess of a prompt against it, and no two accounts share one. */
#include <stdlib.h>

#include "api/chat_request.h"
#include "coordinator/fleet/fleet_internal.h"
#include "crypto/hash.h"
#include "crypto/secret.h"
#include "wire/prefix.h"

#define DOMAIN "dbkv-names-v1"

static void add_u64(struct sha256_state *state, uint64_t value)
{
	sha256_update(state, &value, sizeof value);
}

static void add_text(struct sha256_state *state, struct str text)
{
	add_u64(state, text.len);
	if (text.len)
		sha256_update(state, text.at, text.len);
}

/* What the value says, however its text was spaced. Returns the bytes of its texts. */
static size_t add_value(struct sha256_state *state, const json_val *value)
{
	struct str text;
	double number;
	bool flag;
	size_t bytes = 0;
	add_u64(state, (uint64_t)json_type(value));
	if (json_as_str(value, &text)) {
		add_text(state, text);
		bytes = text.len;
	} else if (json_as_double(value, &number)) {
		sha256_update(state, &number, sizeof number);
	} else if (json_as_bool(value, &flag)) {
		add_u64(state, flag);
	}
	struct json_iter it = json_iter(value);
	struct str key;
	for (json_val *child; (child = json_next(&it, &key));) {
		if (json_type(value) == JSON_OBJECT)
			add_text(state, key);
		bytes += add_value(state, child);
	}
	add_u64(state, UINT64_MAX);
	return bytes;
}

static uint64_t name_now(const struct sha256_state *state)
{
	struct sha256_state copy = *state;
	uint8_t digest[SHA256_BYTES];
	uint64_t name;
	sha256_end(&copy, digest);
	memcpy(&name, digest, sizeof name);
	secret_wipe(digest, sizeof digest);
	return name;
}

/* A name, and the bytes of texts that it stands for. */
struct named {
	uint64_t name;
	size_t bytes;
};

struct names {
	struct named at[FLEET_PREFIXES]; /* the longest first */
	size_t count;
};

/* The first message, mostly a system prompt that conversations share, and the last ones. */
static void keep_name(struct names *names, struct named named)
{
	if (names->count == FLEET_PREFIXES) {
		names->at[FLEET_PREFIXES - 2] = names->at[FLEET_PREFIXES - 1];
		names->count--;
	}
	memmove(names->at + 1, names->at, names->count * sizeof *names->at);
	names->at[0] = named;
	names->count++;
}

static uint32_t tokens_at(const struct chat_request *request, size_t bytes, size_t all_bytes)
{
	double tokens = all_bytes ? (double)request->prompt_estimate_tokens * (double)bytes / (double)all_bytes : 0;
	return tokens < UINT32_MAX ? (uint32_t)tokens : UINT32_MAX;
}

void fleet_name_prefixes(const struct fleet *fleet, const struct chat_request *request, struct str account,
                         struct fleet_prefixes *out)
{
	out->count = 0;
	if (!account.len || json_type(request->messages) != JSON_ARRAY || request->has_media)
		return;
	struct sha256_state state;
	sha256_begin(&state);
	add_text(&state, STR(DOMAIN));
	sha256_update(&state, fleet->options.tenant_key, FLEET_TENANT_KEY_BYTES);
	add_text(&state, account);
	add_text(&state, request->cache_scope);
	(void)add_value(&state, request->tools);
	struct names names = {.count = 0};
	size_t bytes = 0;
	struct json_iter it = json_iter(request->messages);
	for (json_val *message; (message = json_next(&it, NULL));) {
		bytes += add_value(&state, message);
		keep_name(&names, (struct named){name_now(&state), bytes});
	}
	secret_wipe(&state, sizeof state);
	for (; out->count < names.count; out->count++)
		out->at[out->count] =
		    (struct route_prefix){names.at[out->count].name, tokens_at(request, names.at[out->count].bytes, bytes)};
}

/* --- each provider has names of its own for them: two cannot tell that they serve the same account --- */

#define ROUNDS 4

/* Of a session, by the key that it is known by. */
struct name_cipher {
	uint64_t seeds[ROUNDS][2];
	bool attested;
};

static void derive(const struct session *session, struct name_cipher *out)
{
	struct str identity = session_text(session, session->attested ? TEXT_SE_PUBLIC_KEY : TEXT_PUBLIC_KEY);
	uint8_t key[SHA256_BYTES];
	hmac_sha256(session->fleet->options.tenant_key, FLEET_TENANT_KEY_BYTES, identity.at, identity.len, key);
	for (uint8_t i = 0; i < 2; i++) {
		const uint8_t part[] = {'n', 'a', 'm', 'e', 's', i};
		uint8_t seeds[SHA256_BYTES];
		hmac_sha256(key, sizeof key, part, sizeof part, seeds);
		memcpy((char *)out->seeds + i * sizeof seeds, seeds, sizeof seeds);
		secret_wipe(seeds, sizeof seeds);
	}
	secret_wipe(key, sizeof key);
	out->attested = session->attested;
}

/* Made once for those that names are told. NULL: no memory. */
static const struct name_cipher *cipher_of(struct session *session)
{
	if (!session->names)
		session->names = calloc(1, sizeof *session->names);
	else if (session->names->attested == session->attested)
		return session->names;
	if (session->names)
		derive(session, session->names);
	return session->names;
}

void prefixes_forget(struct session *session)
{
	if (session->names)
		secret_wipe(session->names, sizeof *session->names);
	free(session->names);
	session->names = NULL;
}

static uint32_t mix(const struct name_cipher *cipher, int round, uint32_t half)
{
	return (uint32_t)map_hash(cipher->seeds[round], (struct str){(const char *)&half, sizeof half});
}

/* A Feistel network: each name has one of the provider's, and back. */
static uint64_t provider_name(const struct name_cipher *cipher, uint64_t name)
{
	uint32_t left = (uint32_t)(name >> 32), right = (uint32_t)name;
	for (int round = 0; round < ROUNDS; round++) {
		uint32_t next = left ^ mix(cipher, round, right);
		left = right;
		right = next;
	}
	return (uint64_t)left << 32 | right;
}

static uint64_t own_name(const struct name_cipher *cipher, uint64_t name)
{
	uint32_t left = (uint32_t)(name >> 32), right = (uint32_t)name;
	for (int round = ROUNDS - 1; round >= 0; round--) {
		uint32_t before = right ^ mix(cipher, round, left);
		right = left;
		left = before;
	}
	return (uint64_t)left << 32 | right;
}

struct str prefixes_text(struct session *session, const struct route_request *route, char out[FLEET_PREFIXES_TEXT])
{
	uint64_t names[FLEET_PREFIXES];
	size_t count = route->prefix_count < FLEET_PREFIXES ? route->prefix_count : FLEET_PREFIXES;
	const struct name_cipher *cipher = count ? cipher_of(session) : NULL;
	if (!cipher)
		return (struct str){"", 0};
	for (size_t i = 0; i < count; i++)
		names[i] = provider_name(cipher, route->prefixes[i].digest);
	return wire_prefixes_write(names, count, out);
}

void session_prefixes(struct session *session, const struct wire_slot *slot)
{
	uint64_t names[WIRE_SLOT_PREFIXES];
	size_t count = wire_prefixes_read(slot->prefixes, names, WIRE_SLOT_PREFIXES);
	const struct name_cipher *cipher = count ? cipher_of(session) : NULL;
	if (!cipher)
		count = 0;
	for (size_t i = 0; i < count; i++)
		names[i] = own_name(cipher, names[i]);
	(void)route_node_set_prefixes(session->fleet->routes, session->node, slot->model, names, count);
}
