/* What people look at: rows and sums, written as text on the reader's thread so that the loop only passes it on (billing 11).
 * Every list is newest first and paged by a cursor that new rows do not move. */
#ifndef COORDINATOR_STORE_VIEWS_H
#define COORDINATOR_STORE_VIEWS_H

#include "coordinator/store/store.h"

enum store_view_kind {
	STORE_VIEW_USAGE,     /* of an account; account, key_id, model, from_us, to_us, cursor, limit, format */
	STORE_VIEW_EARNINGS,  /* account, cursor, limit; numbers: lifetime micro-dollars, jobs */
	STORE_VIEW_LEADERS,   /* hours, metric, limit, pseudonym_key */
	STORE_VIEW_TOTALS,    /* hours; numbers: as enum store_total */
	STORE_VIEW_STATEMENT, /* account, from_us, to_us: text is a list of movements by type, then `more` one of models;
	                         numbers: opening balance, closing balance */
};
enum store_view_format { STORE_VIEW_JSON, STORE_VIEW_JSON_LINES, STORE_VIEW_CSV };
enum store_metric { STORE_BY_EARNINGS, STORE_BY_TOKENS, STORE_BY_JOBS };
enum store_total { STORE_TOTAL_WORK, STORE_TOTAL_REWARDS, STORE_TOTAL_TOKENS, STORE_TOTAL_JOBS, STORE_TOTAL_ACCOUNTS };

#define STORE_PSEUDONYM_KEY 32
struct store_view {
	enum store_view_kind kind;
	char account[STORE_ID_SIZE];
	char key_id[STORE_ID_SIZE], model[STORE_MODEL_SIZE]; /* empty = all */
	int64_t from_us, to_us;                              /* [from, to); 0 = open */
	int64_t cursor_us, cursor_id;                        /* rows before this one; 0 = from the newest */
	int64_t hours;                                       /* 0 = since ever */
	enum store_metric metric;
	enum store_view_format format;
	uint32_t limit;
	uint8_t pseudonym_key[STORE_PSEUDONYM_KEY];
};
struct store_view_answer {
	struct str text; /* JSON values between commas, JSON lines, or CSV lines; borrowed until the callback returns */
	struct str more; /* as said with the kind */
	size_t rows;
	int64_t next_us, next_id; /* cursor of what follows; 0 = nothing does */
	int64_t numbers[8];
};
typedef void (*store_view_fn)(const struct store_view_answer *answer, const struct error *error, void *user);
void store_view(struct store *store, const struct store_view *view, store_view_fn done, void *user);
const char *store_usage_csv_head(void);

/* "adjective-animal-0042" of an account, the same for ever under one key; whoever has not the key cannot tell whether a name is
 * that of an account he knows. Empty id: "anon". */
#define STORE_PSEUDONYM_SIZE 48
void store_pseudonym(const uint8_t key[STORE_PSEUDONYM_KEY], struct str account_id, char out[STORE_PSEUDONYM_SIZE]);

/* --- what the operator and owners set --- */

/* DB_E_NOT_FOUND when there is none. */
void store_price_delete(struct store *store, struct str account_id, struct str model, store_done_fn done, void *user);

#endif
