/* Public names of models, and the move of their traffic from one build to the next without downtime (routing 13.2,
 * registry 3). Pure, like the rest of routing/.
 *
 * An alias stands for one desired build and, while it is being rolled out, a previous one. A canary gives the desired build a
 * share of the traffic that grows by stages as long as it fails no more often and starts no later than the previous build does;
 * otherwise it is rolled back by itself. An account stays with one build at a given share. Thread: that of the fleet. */
#ifndef COORDINATOR_ALIAS_H
#define COORDINATOR_ALIAS_H

#include "coordinator/routing/routing.h"

#define ALIAS_ID_SIZE     129
#define ALIAS_NAME_SIZE   128
#define ALIAS_RETIRED_MAX 16
#define ALIAS_MAX         1024
#define ALIAS_HASH_SIZE   65
#define ALIAS_STAGES      4
#define ALIAS_WHOLE       100

enum alias_state {
	ALIAS_STEADY,     /* all requests that can go to the desired build do */
	ALIAS_CANARY,     /* a share of them, growing by itself */
	ALIAS_ROLLED_BACK /* none: it failed or was slower; the operator decides */
};
const char *alias_state_name(enum alias_state state); /* "steady", "canary", "rolled_back" */

struct alias {
	char id[ALIAS_ID_SIZE], display_name[ALIAS_NAME_SIZE];
	char desired[ROUTE_MODEL_SIZE], previous[ROUTE_MODEL_SIZE]; /* previous empty = none */
	char weight_hash[ALIAS_HASH_SIZE];                          /* of the desired build's files, lower-case hex; empty = any */
	char retired[ALIAS_RETIRED_MAX][ROUTE_MODEL_SIZE];          /* oldest first */
	size_t retired_count;
	bool active;
	enum alias_state state;
	uint32_t share_percent; /* of requests that the desired build gets while there is a previous one */
	char why[200];          /* of a roll back, in words */
};

struct alias_table;
/* One of a fleet: nodes whose files are not those that it pins do not serve the build. NULL when out of memory. */
struct alias_table *alias_table_new(struct route_fleet *fleet);
void alias_table_free(struct alias_table *table);

struct alias_change {
	struct str id, display_name, desired, previous;
	struct str weight_hash; /* of the desired build; empty = any */
	bool inactive;
	bool takeover;          /* the alias takes the name of the build that it replaces (registry 3) */
	bool canary;            /* begin with a small share; needs a previous build */
	uint32_t share_percent; /* a fixed share instead; 0 = all */
};
/* Makes or changes one; builds that leave it join its retired ones. DB_E_INVALID, DB_E_EXISTS (the name is a build's),
 * DB_E_LIMIT, DB_E_NOMEM with a sentence; nothing is changed then. */
enum db_err alias_put(struct alias_table *table, const struct alias_change *change, uint64_t now_us, struct error *error);
/* As it was kept: at start. DB_E_INVALID, DB_E_LIMIT, DB_E_NOMEM. */
enum db_err alias_restore(struct alias_table *table, const struct alias *alias);
enum db_err alias_remove(struct alias_table *table, struct str id); /* DB_E_NOT_FOUND */
/* Borrowed until the next change; NULL when there is none. */
const struct alias *alias_find(const struct alias_table *table, struct str id);
/* In the order of their ids. Returns how many there are. */
size_t alias_list(const struct alias_table *table, const struct alias **out, size_t max);
/* Whether some active alias stands for the build, so that listings show that name instead. */
bool alias_covers(const struct alias_table *table, struct str build);

/* What the operator said the files of a build are, or NULL: the first active alias that desires it and says so decides. */
const char *alias_pin(const struct alias_table *table, struct str build);

enum alias_choice {
	ALIAS_NOT_ONE, /* the name is a build's own, or nobody's */
	ALIAS_DESIRED,
	ALIAS_PREVIOUS,
	ALIAS_UNAVAILABLE /* the machines that the request names can serve neither build */
};
/* Which build answers a request for `request->model`, by its own constraints: *build is borrowed until the next change. */
enum alias_choice alias_resolve(struct alias_table *table, const struct route_request *request, uint64_t now_us,
                                struct str *build);

/* How a request to a build of an alias ended: ok, or a provider's fault (never a client's). ttft_ms < 0 = not known. */
struct alias_outcome {
	struct str alias, build;
	bool ok;
	double ttft_ms;
};
/* True when the alias changed by it: a stage was reached, or it was rolled back. */
bool alias_note(struct alias_table *table, const struct alias_outcome *outcome, uint64_t now_us);

/* What is known of a build under an alias, decayed over ten minutes. */
struct alias_health {
	double requests, faults, ttft_ms; /* ttft: geometric mean, 0 = none */
};
void alias_health(const struct alias_table *table, struct str id, uint64_t now_us, struct alias_health *desired,
                  struct alias_health *previous);

#endif
