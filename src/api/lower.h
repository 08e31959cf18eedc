/* What dialects share when they lower a body to that of /v1/chat/completions (dialect.h). Pure; thread: any. */
#ifndef API_LOWER_H
#define API_LOWER_H

#include "api/chat_internal.h"
#include "api/dialect.h"

#define LOWER_MAX_BYTES (40u << 20) /* of a lowered body: escapes and wrapping make it larger than what came */

/* Parses a body that must be a JSON object; NULL with *error otherwise. */
json_val *lower_body(struct str body, struct arena *arena, struct api_error *error);
/* Copies the members of the body as they stand, but for those whose names are in the NULL-terminated list: unknown fields
 * travel on. */
void lower_copy_others(struct json_writer *w, struct str body, const char *const *handled);
/* Moves what was written into the arena and parses it as a chat request; frees the buffer. */
bool lower_parse(struct buf *lowered, struct arena *arena, struct chat_request *out, struct api_error *error);

/* For a body that only its lowering reads, so that it need not live as long as the request: on the heap, json_free. NULL with
 * *error. */
struct json_doc *lower_read(struct str body, struct api_error *error);
/* Parses what was written as a chat request, with the dialect's state; NULL: there was no memory for one. */
bool lower_finish(const struct buf *lowered, struct arena *arena, void *state, struct chat_request *out,
                  struct api_error *error);
bool lower_no_memory(struct api_error *error); /* false */

/* A name of the chat API and what the dialect calls it, for the `param` of errors. */
struct lower_name {
	const char *chat, *own;
};
/* Puts the dialect's name where *error has the chat API's; the table ends with {NULL, NULL}. */
void lower_rename_param(struct api_error *error, const struct lower_name *names);

/* A member that must be a string when it is there; *out is left alone when it is absent or null. */
bool lower_get_str(const json_val *root, const char *name, struct str *out, struct api_error *error);

#endif
