#include "coordinator/money/entry_text.h"

#include "core/clock.h"
#include "core/csv.h"
#include "core/json.h"

bool entry_format_of(struct str name, enum entry_format *out)
{
	*out = str_is(name, "csv") ? ENTRY_CSV : ENTRY_JSON;
	return str_is(name, "csv") || str_is(name, "jsonl");
}

const char *entry_content_type(enum entry_format format)
{
	return format == ENTRY_CSV ? "text/csv; charset=utf-8" : "application/x-ndjson";
}

struct str entry_head(enum entry_format format)
{
	return format == ENTRY_CSV ? STR("id,created_at,created_us,account,type,amount_micro_usd,balance_after_micro_usd,"
	                                 "withdrawable_after_micro_usd,request_id,transfer_key,reference\r\n")
	                           : STR_NONE;
}

static void write_csv(const struct store_entry *entry, struct buf *out)
{
	char when[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(entry->created_us, when);
	buf_printf(out, "%lld,%s,%lld,", (long long)entry->id, when, (long long)entry->created_us);
	csv_field(out, str_of(entry->account_id));
	buf_append_byte(out, ',');
	csv_field(out, str_of(entry->type));
	buf_printf(out, ",%lld,%lld,%lld,", (long long)entry->amount_uusd, (long long)entry->balance_after_uusd,
	           (long long)entry->withdrawable_after_uusd);
	csv_field(out, str_of(entry->request_id));
	buf_append_byte(out, ',');
	csv_field(out, str_of(entry->transfer_key));
	buf_append_byte(out, ',');
	csv_field(out, str_of(entry->reference));
	buf_append_c(out, "\r\n");
}

static void put_some(struct json_writer *w, const char *name, const char *value)
{
	if (value[0])
		json_put_cstr(w, name, value);
}

static void write_json(const struct store_entry *entry, struct buf *out)
{
	char when[CLOCK_RFC3339_SIZE];
	struct json_writer w;
	clock_format_rfc3339(entry->created_us, when);
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_i64(&w, "id", entry->id);
	json_put_cstr(&w, "created_at", when);
	json_put_i64(&w, "created_us", entry->created_us);
	json_put_cstr(&w, "account", entry->account_id);
	json_put_cstr(&w, "type", entry->type);
	json_put_i64(&w, "amount_micro_usd", entry->amount_uusd);
	json_put_i64(&w, "balance_after_micro_usd", entry->balance_after_uusd);
	json_put_i64(&w, "withdrawable_after_micro_usd", entry->withdrawable_after_uusd);
	put_some(&w, "request_id", entry->request_id);
	put_some(&w, "transfer_key", entry->transfer_key);
	put_some(&w, "reference", entry->reference);
	json_end_object(&w);
	buf_append_byte(out, '\n');
}

void entry_write(enum entry_format format, const struct store_entry *entry, struct buf *out)
{
	if (format == ENTRY_CSV)
		write_csv(entry, out);
	else
		write_json(entry, out);
}
