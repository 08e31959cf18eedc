/* What comes to the webhook: the first line is the signature's header, the rest the body. Nothing unsigned passes, and whatever
 * is an event has an amount that is none or can be counted. */
#include <stdint.h>
#include <stdlib.h>

#include "coordinator/money/stripe_event.h"
#include "crypto/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static bool ready;
	struct stripe_event event;
	struct stripe_account account;
	struct str header, body = str_cut((struct str){(const char *)bytes, len}, '\n', &header);
	if (!ready && crypto_init())
		abort();
	ready = true;
	if (stripe_signature_check(header, body, STR("a secret that no input knows"), 1800000000) == DB_OK)
		abort();
	if (stripe_event_read(body, &event) == DB_OK && (!event.id[0] || event.cents < -1 || event.created_s < 0))
		abort();
	struct json_doc *doc = json_parse(body, NULL, NULL);
	if (doc && stripe_account_read(json_root(doc), &account) && (!account.id[0] || !account.status[0]))
		abort();
	json_free(doc);
	return 0;
}
