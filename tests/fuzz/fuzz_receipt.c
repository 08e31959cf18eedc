/* Receipts that people hand in: any bytes give a verdict or an error, and nothing that was not signed is called good. */
#include <stdint.h>
#include <stdlib.h>

#include "crypto/secret.h"
#include "wire/receipt.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static bool ready;
	struct receipt_check check;
	struct error error;
	/* A receipt may name this key, but nobody has it: its signatures cannot be in any input. */
	struct receipt_expect expect = {.coordinator_key = STR("AAAA"), .text = STR("text")};
	if (!ready && crypto_init())
		abort();
	ready = true;
	enum db_err err = receipt_verify((struct str){(const char *)bytes, len}, &expect, &check, &error);
	if (err != DB_E_CRYPTO && err != DB_E_INVALID && err != DB_E_LIMIT)
		abort();
	if (err == DB_E_CRYPTO && ((check.coordinator == RECEIPT_GOOD && check.pinned == RECEIPT_GOOD) || !check.why[0]))
		abort();
	return 0;
}
