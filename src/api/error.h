/* Errors as a consumer sees them (http-api 1.4): status, type, code and param are contract, the message is for people. */
#ifndef API_ERROR_H
#define API_ERROR_H

#include "core/buf.h"
#include "core/error.h"
#include "core/json.h"

struct api_error {
	int status;             /* HTTP status */
	const char *type;       /* static text, e.g. "invalid_request_error" */
	const char *code;       /* static text; NULL = same as type */
	const char *param;      /* static text or NULL */
	int retry_after_s;      /* > 0 adds a Retry-After header */
	const char *request_id; /* for dialects whose errors name it; NULL = not known. Set where the error is sent */
	char message[320];
};

/* Fills *error and returns false, so that parsers can `return api_fail(...)`. */
bool api_fail(struct api_error *error, int status, const char *type, const char *code, const char *param, const char *format,
              ...) __attribute__((format(printf, 6, 7)));
/* Puts "error":{"type":...,"code":...,"message":...,"param":...} into an open object. */
void api_error_put(struct json_writer *w, const struct api_error *error);
/* Appends {"error":{"type":...,"code":...,"message":...,"param":...}} and a line feed; param is null when there is none, as the
 * published schema asks. */
void api_error_write(const struct api_error *error, struct buf *out);

#endif
