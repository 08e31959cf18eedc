/* Error codes and the human sentence that goes with them.
 *
 * Every fallible function returns enum db_err (DB_OK is 0) or a pointer that may be NULL. Where a person will read the
 * reason, the function also fills the caller's struct error with one sentence that says what to do next. Passing NULL for
 * the struct error is always allowed. Thread: any. */
#ifndef CORE_ERROR_H
#define CORE_ERROR_H

enum db_err {
	DB_OK = 0,
	DB_E_NOMEM,   /* allocation failed or an arena's limit was reached */
	DB_E_INVALID, /* malformed input */
	DB_E_RANGE,   /* a number outside its allowed range */
	DB_E_LIMIT,   /* larger than a configured bound */
	DB_E_AGAIN,   /* would block: wait for the matching callback */
	DB_E_CLOSED,  /* the peer or the object is gone */
	DB_E_TIMEOUT,
	DB_E_NOT_FOUND,
	DB_E_EXISTS,
	DB_E_DENIED,      /* authentication or permission */
	DB_E_FUNDS,       /* not enough balance */
	DB_E_CRYPTO,      /* a box did not open, a signature did not verify */
	DB_E_IO,          /* disk or network */
	DB_E_UNSUPPORTED, /* understood, but not possible here */
	DB_E_INTERNAL,
};

struct error {
	enum db_err code;
	char text[320]; /* UTF-8 sentence, always terminated; truncated if longer */
};

/* Fills *error (when not NULL) and returns code, so that `return error_set(...)` reads well. */
enum db_err error_set(struct error *error, enum db_err code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Short stable name of a code ("not_found"), for logs. Never NULL. */
const char *error_name(enum db_err code);

#endif
