#include "coordinator/gateway/sealed_keys.h"

#include "core/clock.h"
#include "core/json.h"
#include "crypto/secret.h"
#include "wire/envelope.h"
#include "wire/payload.h"

#include <stdlib.h>

void sealed_options_from_environment(struct sealed_options *options)
{
	static const char *const names[] = {"MNEMONIC", "EIGENINFERENCE_MNEMONIC", "EIGENINFERENCE_SOLANA_MNEMONIC"};
	for (size_t i = 0; i < sizeof names / sizeof *names && !options->mnemonic; i++) {
		const char *value = getenv(names[i]);
		options->mnemonic = value && value[0] ? value : NULL;
	}
	options->previous_mnemonics = getenv("MNEMONIC_PREVIOUS");
}

static enum db_err add_key(struct sealed_keys *keys, struct str mnemonic, const char *variable, struct error *error)
{
	if (keys->count == SEALED_MAX_KEYS)
		return error_set(error, DB_E_LIMIT, "%s holds more than %d mnemonics.", variable, SEALED_MAX_KEYS - 1);
	struct sealed_key *key = &keys->at[keys->count];
	if (box_keypair_from_mnemonic(&key->pair, mnemonic) != DB_OK)
		return error_set(error, DB_E_INVALID, "%s: a mnemonic must have 12 or 24 words.", variable);
	box_key_id(key->pair.public_key, key->kid);
	keys->count++;
	return DB_OK;
}

struct sealed_keys *sealed_keys_new(const struct sealed_options *options, struct error *error)
{
	struct sealed_keys *keys = secret_alloc(sizeof *keys);
	enum db_err err = keys ? DB_OK : error_set(error, DB_E_NOMEM, "There is no locked memory for the coordinator's keys.");
	struct str rest = str_trim(str_of(options->previous_mnemonics)), one;
	bool has_current = options->mnemonic && options->mnemonic[0];
	if (!err && has_current)
		err = add_key(keys, str_of(options->mnemonic), "The mnemonic in the environment", error);
	if (!err && rest.len && !has_current)
		err = error_set(error, DB_E_INVALID, "MNEMONIC_PREVIOUS is set and MNEMONIC is not: give the current one too.");
	if (!err && rest.len && options->previous_until_s <= 0)
		err = error_set(error, DB_E_INVALID, "MNEMONIC_PREVIOUS needs sealed.previous_until: up to when is it accepted?");
	while (!err && rest.len) {
		rest = str_cut(rest, ',', &one);
		err = add_key(keys, one, "MNEMONIC_PREVIOUS", error);
	}
	if (!err) {
		keys->previous_until_us = options->previous_until_s * 1000000;
		return keys;
	}
	secret_free(keys);
	return NULL;
}

size_t sealed_keys_good(const struct sealed_keys *keys, int64_t wall_us)
{
	return keys->count > 1 && wall_us >= keys->previous_until_us ? 1 : keys->count;
}

const struct sealed_key *sealed_keys_find(const struct sealed_keys *keys, struct str kid, int64_t wall_us)
{
	for (size_t i = 0; i < sealed_keys_good(keys, wall_us); i++)
		if (str_is(kid, keys->at[i].kid))
			return &keys->at[i];
	return NULL;
}

static void put_key(struct json_writer *w, const struct sealed_key *key)
{
	char text[WIRE_KEY_B64_LEN + 1];
	wire_key_encode(key->pair.public_key, text);
	json_put_cstr(w, "kid", key->kid);
	json_put_cstr(w, "public_key", text);
	json_put_cstr(w, "algorithm", ENVELOPE_ALGORITHM);
}

enum db_err sealed_keys_write(const struct sealed_keys *keys, int64_t wall_us, struct buf *out)
{
	struct json_writer w;
	size_t good = sealed_keys_good(keys, wall_us);
	if (good == 0)
		return DB_E_NOT_FOUND;
	json_writer_init(&w, out);
	json_begin_object(&w);
	put_key(&w, &keys->at[0]);
	if (good > 1) {
		json_key(&w, "previous");
		json_begin_array(&w);
		for (size_t i = 1; i < good; i++) {
			json_begin_object(&w);
			put_key(&w, &keys->at[i]);
			json_put_i64(&w, "expires_at", keys->previous_until_us / 1000000);
			json_end_object(&w);
		}
		json_end_array(&w);
	}
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}
