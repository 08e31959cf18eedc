/* Shared by the files that read chat requests; not for anyone else. */
#ifndef API_CHAT_INTERNAL_H
#define API_CHAT_INTERNAL_H

#include "api/chat_request.h"

/* 400 invalid_request_error about one parameter. */
#define chat_refuse(error, param, ...) api_fail((error), 400, "invalid_request_error", NULL, (param), __VA_ARGS__)

/* Optional members: absent and null leave *out and *given as they are. False with *error on a wrong type or range. */
bool chat_get_bool(const json_val *root, const char *name, bool *out, struct api_error *error);
bool chat_get_int(const json_val *root, const char *name, int64_t min, int64_t max, bool *given, int64_t *out,
                  struct api_error *error);
bool chat_get_double(const json_val *root, const char *name, double min, double max, bool *given, double *out,
                     struct api_error *error);

/* Everything in struct chat_sampling. */
bool chat_sampling_parse(const json_val *root, struct arena *arena, struct chat_sampling *out, struct api_error *error);
/* messages: shape, media, estimate. */
bool chat_messages_parse(const json_val *root, struct chat_request *request, struct api_error *error);
/* prompt in place of messages. */
bool chat_prompt_parse(const json_val *root, struct chat_request *request, struct api_error *error);
/* tools, tool_choice, response_format. */
bool chat_tools_parse(const json_val *root, struct chat_request *request, struct api_error *error);

#endif
