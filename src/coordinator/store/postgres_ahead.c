/* Reads ahead what a group of operations will ask about accounts and requests, with one statement for each. */
#include "coordinator/store/book.h"

#include "coordinator/store/postgres_text.h"

#define NAMES_MAX (16u << 20)

/* An array literal of names, each once. */
struct names {
	struct buf list;
	struct map seen; /* borrows the operations' texts */
};

static void begin_names(struct names *names)
{
	buf_init(&names->list, NAMES_MAX);
	map_init(&names->seen);
	(void)buf_append_byte(&names->list, '{');
}

static void add_name(struct names *names, const char *name)
{
	void *old = NULL;
	if (!name[0] || !postgres_takes(str_of(name)) || map_get(&names->seen, str_of(name)))
		return;
	if (map_put(&names->seen, str_of(name), names, &old))
		return; /* it is asked for on its own then */
	if (names->list.len > 1)
		(void)buf_append_byte(&names->list, ',');
	(void)postgres_element(str_of(name), &names->list);
}

/* The literal, ready for binding; NULL when there are no names, or too many for memory. */
static const char *end_names(struct names *names)
{
	bool some = names->seen.count > 0;
	(void)buf_append(&names->list, "}", 2);
	map_free(&names->seen);
	return some && !names->list.failed ? names->list.at : NULL;
}

static void want_account(struct book *book, struct names *accounts, const char *id)
{
	if (!map_get(&book->accounts, str_of(id)))
		add_name(accounts, id);
}

static void want_request(struct book *book, struct names *requests, const char *id)
{
	if (!map_get(&book->holds, str_of(id)))
		add_name(requests, id);
}

static void look_at(struct book *book, struct store_op *op, struct names *accounts, struct names *requests)
{
	const struct op_settle *settle = (struct op_settle *)op;
	const struct op_transfer *transfer = (struct op_transfer *)op;
	switch (op->kind) {
	case OP_HOLD_CREATE:
		want_account(book, accounts, ((struct op_hold_create *)op)->hold.account_id);
		want_request(book, requests, ((struct op_hold_create *)op)->hold.request_id);
		break;
	case OP_HOLD_RAISE:
	case OP_HOLD_RELEASE:
		want_request(book, requests, ((struct op_hold_change *)op)->request_id);
		break;
	case OP_SETTLE:
		want_account(book, accounts, settle->s.account_id);
		want_account(book, accounts, settle->s.provider_account);
		want_account(book, accounts, settle->s.referrer);
		want_account(book, accounts, STORE_ACCOUNT_PLATFORM);
		want_request(book, requests, settle->s.request_id);
		break;
	case OP_TRANSFER:
		want_account(book, accounts, transfer->transfer.from);
		want_account(book, accounts, transfer->transfer.to);
		break;
	case OP_ACCOUNT_GET:
		want_account(book, accounts, ((struct op_account_find *)op)->key);
		break;
	default:
		break;
	}
}

static void read_accounts(struct book *book, const char *names)
{
	struct sql_stmt *stmt = sql_say(book->db, "SELECT id, ref, may_go_below, balance, withdrawable, coalesce(mine, 0),"
	                                          " coalesce(others, 0), coalesce(watchers, 0) FROM accounts"
	                                          " JOIN balances ON account = ref LEFT JOIN LATERAL (SELECT"
	                                          " sum(amount) FILTER (WHERE instance = ?2) AS mine,"
	                                          " sum(amount) FILTER (WHERE instance <> ?2) AS others,"
	                                          " count(*) FILTER (WHERE instance <> ?2) AS watchers"
	                                          " FROM leases WHERE leases.account = ref) l ON TRUE"
	                                          " WHERE id = ANY (?1::TEXT[])");
	sql_put_text(stmt, 1, names);
	sql_put_i64(stmt, 2, book->instance);
	while (sql_row(stmt)) {
		struct book_account read = {.ref = sql_i64(stmt, 1),
		                            .is_source = sql_i64(stmt, 2) != 0,
		                            .balance = sql_i64(stmt, 3),
		                            .withdrawable = sql_i64(stmt, 4),
		                            .leased = sql_i64(stmt, 5),
		                            .others = sql_i64(stmt, 6),
		                            .watchers = sql_i64(stmt, 7)};
		sql_copy(stmt, 0, read.id, sizeof read.id);
		if (!book_add_account(book, &read))
			break;
	}
	sql_done(stmt);
}

static void read_requests(struct book *book, const char *names)
{
	struct sql_stmt *stmt =
	    sql_say(book->db, "SELECT request_id, id, account, amount, CASE WHEN state = 'open' THEN 1 ELSE 0 END"
	                      " FROM holds WHERE request_id = ANY (?::TEXT[])");
	sql_put_text(stmt, 1, names);
	while (sql_row(stmt)) {
		struct book_hold read = {.row = sql_i64(stmt, 1), .account = sql_i64(stmt, 2)};
		sql_copy(stmt, 0, read.facts.request_id, sizeof read.facts.request_id);
		read.facts.amount_uusd = sql_i64(stmt, 3);
		if (!sql_i64(stmt, 4))
			book_note_ended(book, read.facts.request_id);
		else if (!book_add_hold(book, &read))
			break;
	}
	sql_done(stmt);
}

void book_read_ahead(struct book *book, struct store_op **ops, size_t count)
{
	struct names accounts, requests;
	begin_names(&accounts);
	begin_names(&requests);
	for (size_t i = 0; i < count; i++)
		look_at(book, ops[i], &accounts, &requests);
	const char *wanted_accounts = end_names(&accounts), *wanted_requests = end_names(&requests);
	if (accounts.list.failed || requests.list.failed)
		sql_fail(book->db, DB_E_INTERNAL, "A group of operations is too large to be read ahead.");
	if (wanted_accounts)
		read_accounts(book, wanted_accounts);
	if (wanted_requests)
		read_requests(book, wanted_requests);
	buf_free(&accounts.list);
	buf_free(&requests.list);
}
