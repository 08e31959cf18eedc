/* Sealed: version (1 byte), name of the secret (8), nonce (12), AES-256-GCM ciphertext and tag. */
#include "coordinator/response_vault.h"

#include <stdio.h>

#include "coordinator/key_file.h"
#include "core/id.h"
#include "crypto/aead.h"
#include "crypto/secret.h"

#define VERSION     1
#define NAME_BYTES  8
#define HEAD_BYTES  (1 + NAME_BYTES + AEAD_NONCE_BYTES)
#define MAX_SECRETS 8
#define BOUND_BYTES 256
#define KEY_NAME    "responses_key"

_Static_assert(HEAD_BYTES + AEAD_TAG_BYTES == RESPONSE_VAULT_EXTRA_BYTES, "the header says what sealing adds");

struct vault_secret {
	uint8_t prk[HKDF_PRK_BYTES], name[NAME_BYTES];
};

/* In locked memory. The first seals, all open. */
struct response_vault {
	struct vault_secret secrets[MAX_SECRETS];
	size_t count;
};

static void add_secret(struct response_vault *vault, struct str secret)
{
	if (vault->count == MAX_SECRETS)
		return;
	struct vault_secret *entry = &vault->secrets[vault->count++];
	hkdf_extract(STR("darkbloom responses"), secret, entry->prk);
	(void)hkdf_expand(entry->prk, STR("name"), entry->name, sizeof entry->name);
}

static void add_previous(struct response_vault *vault, struct str list)
{
	struct str one;
	while (list.len > 0) {
		list = str_cut(list, ',', &one);
		one = str_trim(one);
		if (one.len > 0)
			add_secret(vault, one);
	}
}

/* The file is the first secret where there is no other; what it sealed before opens still. */
static enum db_err add_file(struct response_vault *vault, const char *dir, struct error *error)
{
	uint8_t key[KEY_FILE_BYTES];
	bool needed = vault->count == 0;
	enum db_err err = needed ? key_file_load(dir, KEY_NAME, key, error) : key_file_read(dir, KEY_NAME, key);
	if (!err)
		add_secret(vault, (struct str){(const char *)key, sizeof key});
	secret_wipe(key, sizeof key);
	return needed ? err : DB_OK;
}

struct response_vault *response_vault_new(const struct response_vault_options *options, struct error *error)
{
	struct response_vault *vault = secret_alloc(sizeof *vault);
	if (!vault) {
		error_set(error, DB_E_NOMEM, "There is no locked memory for the coordinator's keys.");
		return NULL;
	}
	struct str mnemonic = str_trim(str_of(options->mnemonic));
	if (mnemonic.len > 0) {
		add_secret(vault, mnemonic);
		add_previous(vault, str_of(options->previous_mnemonics));
	}
	if (add_file(vault, options->dir, error) == DB_OK)
		return vault;
	secret_free(vault);
	return NULL;
}

void response_vault_free(struct response_vault *vault)
{
	if (vault)
		secret_free(vault);
}

static enum db_err account_key(const struct vault_secret *secret, struct str account, uint8_t key[AEAD_KEY_BYTES])
{
	char info[HKDF_MAX_INFO];
	int len = snprintf(info, sizeof info, "account %.*s", STR_ARG(account));
	if (len < 0 || (size_t)len >= sizeof info)
		return DB_E_LIMIT;
	return hkdf_expand(secret->prk, (struct str){info, (size_t)len}, key, AEAD_KEY_BYTES);
}

/* Neither part can hold a line feed that is not its end: ids are made here. */
static bool bound(struct str account, struct str id, char text[BOUND_BYTES], struct str *out)
{
	int len = snprintf(text, BOUND_BYTES, "%.*s\n%.*s", STR_ARG(account), STR_ARG(id));
	*out = (struct str){text, len > 0 ? (size_t)len : 0};
	return len > 0 && len < BOUND_BYTES;
}

enum db_err response_vault_seal(const struct response_vault *vault, struct str account, struct str id, struct str plain,
                                struct buf *out)
{
	const struct vault_secret *secret = &vault->secrets[0];
	uint8_t key[AEAD_KEY_BYTES];
	char text[BOUND_BYTES];
	struct str aad;
	enum db_err err = bound(account, id, text, &aad) ? account_key(secret, account, key) : DB_E_LIMIT;
	if (!err)
		err = buf_reserve(out, RESPONSE_VAULT_EXTRA_BYTES + plain.len);
	if (err)
		return err;
	uint8_t *at = (uint8_t *)out->at + out->len;
	at[0] = VERSION;
	memcpy(at + 1, secret->name, NAME_BYTES);
	id_random(at + 1 + NAME_BYTES, AEAD_NONCE_BYTES);
	err = aead_seal(key, at + 1 + NAME_BYTES, aad, plain.at, plain.len, at + HEAD_BYTES);
	secret_wipe(key, sizeof key);
	if (!err)
		out->len += RESPONSE_VAULT_EXTRA_BYTES + plain.len;
	return err;
}

static const struct vault_secret *secret_named(const struct response_vault *vault, const char *name)
{
	for (size_t i = 0; i < vault->count; i++)
		if (memcmp(vault->secrets[i].name, name, NAME_BYTES) == 0)
			return &vault->secrets[i];
	return NULL;
}

enum db_err response_vault_open(const struct response_vault *vault, struct str account, struct str id, struct str sealed,
                                struct buf *out)
{
	uint8_t key[AEAD_KEY_BYTES];
	char text[BOUND_BYTES];
	struct str aad;
	if (sealed.len < RESPONSE_VAULT_EXTRA_BYTES || sealed.at[0] != VERSION || !bound(account, id, text, &aad))
		return DB_E_CRYPTO;
	const struct vault_secret *secret = secret_named(vault, sealed.at + 1);
	size_t len = sealed.len - RESPONSE_VAULT_EXTRA_BYTES;
	enum db_err err = secret ? account_key(secret, account, key) : DB_E_NOT_FOUND;
	if (!err)
		err = buf_reserve(out, len);
	if (err)
		return err;
	const uint8_t *at = (const uint8_t *)sealed.at;
	err = aead_open(key, at + 1 + NAME_BYTES, aad, at + HEAD_BYTES, len + AEAD_TAG_BYTES, (uint8_t *)out->at + out->len);
	secret_wipe(key, sizeof key);
	if (!err)
		out->len += len;
	return err;
}
