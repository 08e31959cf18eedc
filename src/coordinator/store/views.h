/* The views' SQL. Inside store/ only; thread: a reader's. */
#ifndef COORDINATOR_STORE_VIEWS_SQL_H
#define COORDINATOR_STORE_VIEWS_SQL_H

#include "coordinator/store/sql.h"
#include "coordinator/store/store_views.h"
#include "core/buf.h"

struct view_out {
	struct buf text, more;
	struct store_view_answer answer;
};
void view_usage(struct sql *db, const struct store_view *view, struct view_out *out);
void view_earnings(struct sql *db, const struct store_view *view, struct view_out *out);
void view_leaders(struct sql *db, const struct store_view *view, struct view_out *out);
void view_totals(struct sql *db, const struct store_view *view, struct view_out *out);
void view_statement(struct sql *db, const struct store_view *view, struct view_out *out);

#endif
