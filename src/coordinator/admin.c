#include "coordinator/admin.h"

#include "coordinator/books_admin.h"
#include "coordinator/database.h"
#include "core/cli.h"
#include "core/clock.h"
#include "core/json.h"

#include <stdio.h>

static void print_json(struct buf *out)
{
	buf_append_byte(out, '\n');
	fwrite(out->at, 1, out->len, stdout);
	buf_free(out);
}

int admin_ledger_verify(const struct coordinator_config *config)
{
	struct store_audit audit;
	struct error error;
	if (store_audit(database_place(config), &audit, &error) != DB_OK) {
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
		return CLI_FAILED;
	}
	bool clean = store_audit_clean(&audit);
	struct buf out;
	struct json_writer w;
	buf_init(&out, 4096);
	json_writer_init(&w, &out);
	json_begin_object(&w);
	json_put_i64(&w, "entries", audit.entries);
	json_put_i64(&w, "accounts", audit.accounts);
	json_put_i64(&w, "open_holds", audit.open_holds);
	json_put_i64(&w, "sum_micro_usd", audit.sum_uusd);
	json_put_i64(&w, "unbalanced", audit.unbalanced);
	json_put_i64(&w, "broken_chains", audit.broken_chains);
	json_put_i64(&w, "wrong_balances", audit.wrong_balances);
	json_put_i64(&w, "negative_balances", audit.negative_balances);
	json_put_i64(&w, "wrong_settlements", audit.wrong_settlements);
	json_put_i64(&w, "wrong_key_spends", audit.wrong_spends);
	json_put_i64(&w, "usage_cost_micro_usd", audit.usage_cost_uusd);
	json_put_i64(&w, "charged_micro_usd", audit.charged_uusd);
	clean = books_put_chain(config, &w) && clean;
	json_put_bool(&w, "clean", clean);
	json_end_object(&w);
	print_json(&out);
	return clean ? CLI_OK : CLI_FAILED;
}

static void put_time(struct json_writer *w, const char *name, int64_t wall_us)
{
	char text[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(wall_us, text);
	json_put_cstr(w, name, text);
}

static void put_usage(struct json_writer *w, const struct store_settlement *s)
{
	json_key(w, "usage");
	json_begin_object(w);
	json_put_cstr(w, "model", s->model);
	json_put_cstr(w, "public_model", s->public_model);
	json_put_cstr(w, "provider_id", s->provider_id);
	json_put_cstr(w, "provider_account", s->provider_account);
	json_put_cstr(w, "outcome", s->outcome);
	json_put_i64(w, "prompt_tokens", (int64_t)s->prompt_tokens);
	json_put_i64(w, "completion_tokens", (int64_t)s->completion_tokens);
	json_put_i64(w, "reasoning_tokens", (int64_t)s->reasoning_tokens);
	json_put_i64(w, "input_price", s->price_in);
	json_put_i64(w, "output_price", s->price_out);
	json_put_i64(w, "cost_micro_usd", s->cost_uusd);
	json_put_i64(w, "fee_micro_usd", s->fee_uusd);
	put_time(w, "timestamp", s->created_us);
	json_end_object(w);
}

int admin_ledger_show(const struct coordinator_config *config, const char *request_id)
{
	struct store_record record;
	struct error error;
	if (store_show(database_place(config), str_of(request_id), &record, &error) != DB_OK) {
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
		return CLI_FAILED;
	}
	struct buf out;
	struct json_writer w;
	buf_init(&out, 64u << 10);
	json_writer_init(&w, &out);
	json_begin_object(&w);
	json_put_cstr(&w, "request_id", record.settlement.request_id);
	json_put_cstr(&w, "account", record.settlement.account_id);
	json_put_cstr(&w, "key_id", record.settlement.key_id);
	json_put_cstr(&w, "state", record.state);
	json_put_cstr(&w, "reason", record.reason);
	json_put_i64(&w, "hold_micro_usd", record.hold_uusd);
	put_time(&w, "created", record.created_us);
	if (strcmp(record.state, "settled") == 0)
		put_usage(&w, &record.settlement);
	json_key(&w, "entries");
	json_begin_array(&w);
	for (size_t i = 0; i < record.entry_count; i++) {
		const struct store_ledger_row *entry = &record.entries[i];
		json_begin_object(&w);
		json_put_i64(&w, "id", entry->id);
		json_put_cstr(&w, "type", entry->type);
		json_put_cstr(&w, "account", entry->account_id);
		json_put_i64(&w, "amount_micro_usd", entry->amount_uusd);
		json_put_i64(&w, "balance_after_micro_usd", entry->balance_after_uusd);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_end_object(&w);
	print_json(&out);
	return CLI_OK;
}
