/* Rows of settled requests, for whoever reads them: the coordinator's views and the command that shows one. Inside store/ only.
 */
#ifndef COORDINATOR_STORE_USAGE_ROW_H
#define COORDINATOR_STORE_USAGE_ROW_H

#include "coordinator/store/sql.h"
#include "coordinator/store/store.h"

/* Of holds h, usage u, the payer's account a and the provider's p, in the order in which usage_row_read takes them. */
#define USAGE_ROW_COLUMNS                                                                                                      \
	"h.request_id, a.id, u.key_id, p.id, u.provider_id, u.provider_key, u.model, u.public_model, u.outcome, u.prompt_tokens,"  \
	" u.completion_tokens, u.reasoning_tokens, u.price_in, u.price_out, u.cost, u.fee, h.amount, u.created_us,"                \
	" u.cached_tokens, u.price_cached, u.service, u.job_id, u.reported_tokens, u.response_hash, u.se_signature,"               \
	" u.se_public_key, u.consumer_key, u.reported_prompt, u.reported_reasoning"
#define USAGE_ROW_COUNT 29 /* of those columns */

void usage_row_read(struct sql_stmt *stmt, struct store_settlement *s);
void entry_row_read(struct sql_stmt *stmt, struct store_ledger_row *row);

extern const char usage_of_request_sql[];   /* of one request id; usage_row_read */
extern const char entries_of_request_sql[]; /* the same; entry_row_read, in the order of the ledger */

#endif
