/* `darkbloom verify`: checks a receipt without asking anyone (docs/reference/receipts.md). */
#include "provider/cli/cli.h"

#include <errno.h>
#include <stdio.h>

#include "core/clock.h"
#include "core/encode.h"
#include "core/json.h"
#include "wire/receipt.h"

#define TEXT_MAX (64u << 20)

const struct cli_option verify_options[] = {
    {.name = "key",
     .value = "BASE64",
     .help = "the coordinator's receipt key: public_key of /.well-known/darkbloom-receipt-key"},
    {.name = "text", .value = "FILE", .help = "the answer's text as the provider sent it, to be compared with what was signed"},
    {.name = "json", .help = "print JSON"},
    {.name = NULL},
};

static enum db_err read_file(const char *path, struct buf *out, struct error *error)
{
	char block[8192];
	size_t got;
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *file = is_stdin ? stdin : fopen(path, "rbe");
	if (!file)
		return error_set(error, DB_E_IO, "%s cannot be read: %s.", path, strerror(errno));
	while ((got = fread(block, 1, sizeof block, file)) > 0 && !out->failed)
		buf_append(out, block, got);
	bool failed = ferror(file) != 0;
	if (!is_stdin)
		fclose(file);
	if (out->failed)
		return error_set(error, DB_E_LIMIT, "%s is larger than it can be.", path);
	return failed ? error_set(error, DB_E_IO, "%s cannot be read to its end.", path) : DB_OK;
}

static const char *word(enum receipt_part part)
{
	static const char *const words[] = {"not checked", "good", "BAD"};
	return words[part];
}

static void print_json(const struct receipt_check *check)
{
	struct buf out;
	struct json_writer w;
	buf_init(&out, 65536);
	json_writer_init(&w, &out);
	json_begin_object(&w);
	json_put_bool(&w, "good", !check->why[0]);
	json_put_cstr(&w, "request_id", check->request_id);
	json_put_cstr(&w, "model", check->model);
	json_put_i64(&w, "cost_micro_usd", check->cost_uusd);
	json_put_cstr(&w, "kid", check->kid);
	json_put_cstr(&w, "coordinator_signature", word(check->coordinator));
	json_put_cstr(&w, "coordinator_key", word(check->pinned));
	json_put_cstr(&w, "provider_signature", word(check->provider));
	json_put_cstr(&w, "text", word(check->text));
	json_put_cstr(&w, "money", word(check->money));
	if (check->why[0])
		json_put_cstr(&w, "why", check->why);
	json_end_object(&w);
	printf("%.*s\n", STR_ARG(buf_str(&out)));
	buf_free(&out);
}

static void print_lines(const struct receipt_check *check)
{
	char when[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(check->created_us, when);
	printf("request                %s\n", check->request_id);
	printf("model                  %s, %llu + %llu tokens, %lld micro-dollars, %s\n", check->model,
	       (unsigned long long)check->prompt_tokens, (unsigned long long)check->completion_tokens, (long long)check->cost_uusd,
	       when);
	printf("coordinator signature  %s (key %s)\n", word(check->coordinator), check->kid);
	printf("coordinator key        %s\n", word(check->pinned));
	printf("provider signature     %s\n", word(check->provider));
	printf("text                   %s\n", word(check->text));
	printf("money                  %s\n", word(check->money));
	if (check->why[0])
		printf("%s\n", check->why);
}

static int verify(const struct cli_args *args, struct buf *document, struct buf *text)
{
	struct error error;
	struct receipt_check check;
	struct receipt_expect expect = {.coordinator_key = str_of(cli_value(args, "key"))};
	const char *text_path = cli_value(args, "text"), *path = cli_arg(args, 0);
	uint8_t key[64];
	if (expect.coordinator_key.at && base64_decode_exact(expect.coordinator_key, key, sizeof key)) {
		fprintf(stderr, "darkbloom verify: --key is no public key: give the 88 letters of public_key, as "
		                "/.well-known/darkbloom-receipt-key tells it.\n");
		return CLI_USAGE;
	}
	enum db_err err = read_file(path, document, &error);
	if (!err && text_path)
		err = read_file(text_path, text, &error);
	if (!err && text_path)
		expect.text = text->at ? buf_str(text) : STR("");
	if (err) {
		fprintf(stderr, "darkbloom verify: %s\n", error.text);
		return CLI_FAILED;
	}
	err = receipt_verify(buf_str(document), &expect, &check, &error);
	if (err && err != DB_E_CRYPTO) {
		fprintf(stderr, "darkbloom verify: %s holds no receipt as GET /v1/receipts/ID gives it. %s\n",
		        strcmp(path, "-") == 0 ? "standard input" : path, error.text);
		return CLI_FAILED;
	}
	if (cli_flag(args, "json"))
		print_json(&check);
	else
		print_lines(&check);
	return err ? CLI_FAILED : CLI_OK;
}

int run_verify(const struct cli_args *args)
{
	struct buf document, text;
	if (cli_arg_count(args) != 1) {
		fprintf(stderr, "darkbloom verify: give the file of one receipt, or - for standard input.\n");
		return CLI_USAGE;
	}
	buf_init(&document, 2 * RECEIPT_MAX);
	buf_init(&text, TEXT_MAX);
	int status = verify(args, &document, &text);
	buf_free(&text);
	buf_free(&document);
	return status;
}
