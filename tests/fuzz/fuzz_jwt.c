/* Tokens and key sets: nothing that was not signed by a known key is ever accepted, and reading never fails badly. */
#include <stdlib.h>

#include "crypto/jwt.h"
#include "crypto/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The example of RFC 7517, appendix A.1: whoever holds its private half does not fuzz this. */
static const char known_keys[] =
    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\","
    "\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}]}";

static void read_token(struct str text, const struct jwt_keys *keys)
{
	struct arena *arena = arena_new(0);
	struct jwt jwt;
	struct jwt_claims claims;
	struct jwt_rules rules = {.issuer = STR("i"), .audience = STR("a"), .now_s = 1000, .skew_s = 60};
	struct error error;
	if (jwt_parse(text, arena, &jwt, &error) == DB_OK) {
		if (jwt_verify_any(&jwt, keys) == DB_OK)
			abort();
		if (jwt_check(&jwt, &rules, &claims, &error) == DB_OK && !claims.subject.len)
			abort();
		rules.is_id_token = true;
		(void)jwt_check(&jwt, &rules, &claims, NULL);
	}
	arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct jwt_keys *known;
	struct jwt_keys *keys = NULL;
	struct jwt_key *key = NULL;
	struct str text = {(const char *)data, size};
	if (!known && (crypto_init() || jwt_keys_parse(str_of(known_keys), &known, NULL) || jwt_keys_count(known) != 1))
		abort();
	if (size == 0)
		return 0;
	struct str rest = str_sub(text, 1, size);
	if (data[0] == 'k') {
		if (jwt_keys_parse(rest, &keys, NULL) == DB_OK && jwt_keys_count(keys) > JWT_KEYS_MAX)
			abort();
		jwt_keys_free(keys);
	} else if (data[0] == 'p') {
		if ((jwt_key_from_pem(rest, &key, NULL) == DB_OK) != (key != NULL))
			abort();
		jwt_key_free(key);
	} else {
		read_token(rest, known);
	}
	return 0;
}
