/* Money as text (billing 1). Pure; thread: any. */
#ifndef COORDINATOR_PRICING_H
#define COORDINATOR_PRICING_H

#include "core/error.h"
#include "core/str.h"
#include "wire/price.h"

/* "25.00" -> 25000000: decimal text, at most six fraction digits, no sign, no exponent (billing 1). */
enum db_err price_parse_usd(struct str text, int64_t *uusd);
/* A number as it stands in JSON, dollars: exact, rounded half away from zero at the sixth fraction digit; exponents are read.
 * DB_E_INVALID for what is no number of at least 0, DB_E_RANGE above max_uusd. */
enum db_err price_parse_number(struct str text, int64_t max_uusd, int64_t *uusd);
#define PRICE_USD_SIZE 32
void price_format_usd(int64_t uusd, char out[PRICE_USD_SIZE]);              /* "25.000000" */
void price_format_per_token(int64_t per_million, char out[PRICE_USD_SIZE]); /* "0.00000005" (billing 1) */

#endif
