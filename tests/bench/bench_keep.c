/* What keeping an answer costs the loop's thread: sealing its record for its account. Lines `bench <name> <value> <unit>`. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/responses.h"
#include "coordinator/response_vault.h"
#include "core/clock.h"
#include "crypto/secret.h"

#define SECONDS 0.3

static void must(bool good)
{
	if (!good) {
		fprintf(stderr, "a benchmark's own work failed\n");
		exit(1);
	}
}

static void measure(const struct response_vault *vault, const char *name, size_t bytes)
{
	char *record = malloc(bytes);
	must(record != NULL);
	memset(record, 'x', bytes);
	uint64_t runs = 0, began = clock_mono_us(), now = began;
	for (; now - began < (uint64_t)(SECONDS * 1e6); now = clock_mono_us(), runs++) {
		struct buf sealed; /* as it is made for each answer, and wiped behind it */
		buf_init(&sealed, bytes + RESPONSE_VAULT_EXTRA_BYTES);
		must(response_vault_seal(vault, STR("account"), STR("resp_0198f3a07e1c7cc2b0a0000000000000"),
		                         (struct str){record, bytes}, &sealed) == DB_OK);
		buf_free(&sealed);
	}
	printf("bench %s %.1f us\n", name, (double)(now - began) / (double)runs);
	free(record);
}

int main(void)
{
	struct error error = {0};
	char dir[] = "/tmp/bench_keep_XXXXXX";
	must(crypto_init() == DB_OK && mkdtemp(dir) != NULL);
	struct response_vault_options options = {
	    .dir = dir, .mnemonic = "a secret of the benchmark alone", .previous_mnemonics = ""};
	struct response_vault *vault = response_vault_new(&options, &error);
	must(vault != NULL);
	measure(vault, "response_seal_4k_us", 4u << 10);
	measure(vault, "response_seal_100k_us", 100u << 10);
	measure(vault, "response_seal_2m_us", 2u << 20);
	measure(vault, "response_seal_most_us", RESPONSES_RECORD_MAX_BYTES);
	response_vault_free(vault);
	return rmdir(dir);
}
