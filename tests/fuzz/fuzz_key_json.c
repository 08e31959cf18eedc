/* Any bytes as the body that makes or changes a key: what is accepted stays within its bounds, is shown as JSON, and means the
 * same when what is shown is read again. */
#include <stdlib.h>

#include "coordinator/accounts/accounts.h"
#include "coordinator/accounts/key_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW INT64_C(1800000000000000)

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_key(const struct store_key *key)
{
	struct buf shown;
	struct json_writer w;
	struct error why;
	check((key->scopes & ~(unsigned)SCOPE_ALL) == 0);
	check(key->limit_uusd >= 0 && key->rpm >= 0 && key->itpm >= 0 && key->otpm >= 0);
	check(key->limit_reset <= STORE_WINDOW_MONTH);
	check(key->expires_us == 0 || key->expires_us > NOW);
	buf_init(&shown, 64u << 10);
	json_writer_init(&w, &shown);
	key_json_write(&w, key);
	struct json_doc *doc = json_parse(buf_str(&shown), NULL, &why);
	check(doc != NULL);
	json_free(doc);
	buf_free(&shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str body = {(const char *)data, size};
	struct store_key key, changed;
	struct api_error error;
	unsigned fields;
	if (key_json_create(body, NOW, &key, &error))
		check_key(&key);
	else
		check(error.status == 400 && error.message[0]);
	changed = (struct store_key){.name = "before", .scopes = SCOPE_INFERENCE, .limited = true, .limit_uusd = 5};
	if (key_json_patch(body, NOW, &changed, &fields, &error)) {
		check_key(&changed);
		if (!(fields & STORE_KEY_LIMIT))
			check(changed.limited && changed.limit_uusd == 5);
		if (!(fields & STORE_KEY_SCOPES))
			check(changed.scopes == SCOPE_INFERENCE);
	}
	return 0;
}
