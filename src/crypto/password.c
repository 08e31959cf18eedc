#include "crypto/password.h"

#include <sodium.h>

_Static_assert(PASSWORD_HASH_SIZE >= crypto_pwhash_STRBYTES, "encoded hash");

enum db_err password_hash(struct str password, char out[PASSWORD_HASH_SIZE])
{
	memset(out, 0, PASSWORD_HASH_SIZE);
	if (password.len > crypto_pwhash_PASSWD_MAX)
		return DB_E_LIMIT;
	if (crypto_pwhash_str_alg(out, password.at ? password.at : "", password.len, crypto_pwhash_OPSLIMIT_INTERACTIVE,
	                          crypto_pwhash_MEMLIMIT_INTERACTIVE, crypto_pwhash_ALG_ARGON2ID13) != 0)
		return DB_E_NOMEM;
	return DB_OK;
}

bool password_verify(struct str password, const char *encoded)
{
	struct str text = str_of(encoded);
	if (!str_starts(text, STR("$argon2id$")) || text.len >= crypto_pwhash_STRBYTES || password.len > crypto_pwhash_PASSWD_MAX)
		return false;
	return crypto_pwhash_str_verify(encoded, password.at ? password.at : "", password.len) == 0;
}
