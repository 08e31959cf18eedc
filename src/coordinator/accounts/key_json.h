/* API keys as JSON (http-api 4.1): what people send to make or change one, and what they are shown. Pure. Thread: any. */
#ifndef COORDINATOR_KEY_JSON_H
#define COORDINATOR_KEY_JSON_H

#include "api/error.h"
#include "coordinator/store/store.h"
#include "core/json.h"

/* The terms in the body of POST /v1/keys, which may be empty: a key for inference without limits. `now_us` is wall time. */
bool key_json_create(struct str body, int64_t now_us, struct store_key *terms, struct api_error *error);

/* The body of PATCH /v1/keys/{id}: changes `key`, which is how it stands, and says in *fields (enum store_key_field) what
 * changed. What is absent stays, null clears. An `expires_at` that has passed must be among what changes. */
bool key_json_patch(struct str body, int64_t now_us, struct store_key *key, unsigned *fields, struct api_error *error);

/* The key's object. Never its text. */
void key_json_write(struct json_writer *w, const struct store_key *key);

#endif
