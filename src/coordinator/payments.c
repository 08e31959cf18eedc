/* What the caller has (http-api 4.3). */
#include "coordinator/server.h"

#include "core/json.h"

static void put_usd(struct json_writer *w, const char *name, int64_t uusd)
{
	char text[PRICE_USD_SIZE];
	price_format_usd(uusd, text);
	json_put_cstr(w, name, text);
}

void handle_balance(struct server *server, struct exchange *exchange)
{
	(void)server;
	const struct ledger_account *account = exchange->caller.account;
	int64_t available = ledger_available(account), withdrawable = ledger_withdrawable(account);
	struct buf body;
	struct json_writer w;
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_i64(&w, "balance_micro_usd", available);
	put_usd(&w, "balance_usd", available);
	json_put_i64(&w, "withdrawable_micro_usd", withdrawable);
	put_usd(&w, "withdrawable_usd", withdrawable);
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}
