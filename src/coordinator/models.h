/* The model listings (http-api 2.11), kept as finished JSON until something in them changes: with hundreds of models and many
 * callers a listing costs a copy. Thread: the loop's. */
#ifndef COORDINATOR_MODELS_H
#define COORDINATOR_MODELS_H

#include "coordinator/money/pricing.h"
#include "coordinator/routing/routing.h"
#include "core/buf.h"

#define MODELS_MAX 4096

/* Where the listings come from. */
struct models_source {
	uint64_t (*version)(void *user); /* as route_models_version; prices that change while serving must change it too */
	size_t (*views)(void *user, struct route_model_view *out, size_t max); /* as route_models */
	struct price (*price)(void *user, struct str model);
	void *user;
	int64_t created_s; /* of models whose age nobody told */
};

struct models;
struct models *models_new(const struct models_source *source); /* NULL when out of memory */
void models_free(struct models *models);

/* Borrowed until the next call of any of these; empty when out of memory. */
struct str models_list(struct models *models);               /* GET /v1/models */
struct str models_openrouter(struct models *models);         /* GET /v1/models/openrouter */
struct str models_one(struct models *models, struct str id); /* its entry; empty when there is none */

#endif
