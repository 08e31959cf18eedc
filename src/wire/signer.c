#include "wire/signer.h"

static enum db_err sign_with_key(const void *context, struct str message, struct buf *signature)
{
	const struct p256_key *key = context;
	return p256_sign_base64(key, message, signature);
}

struct wire_signer wire_signer_of(const struct p256_key *key)
{
	return (struct wire_signer){.sign = sign_with_key, .context = key};
}
