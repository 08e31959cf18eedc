/* Numbers between bounds, as a piece of a GBNF grammar: what a JSON schema says of a number that may have a fraction. Every
 * text that the piece takes is a JSON number within the bounds; every such number of up to 16 digits before and after the point
 * has a text that it takes, without an exponent. Pure; thread: any. */
#ifndef PROVIDER_NUMBER_GRAMMAR_H
#define PROVIDER_NUMBER_GRAMMAR_H

#include "core/buf.h"
#include "core/error.h"

#define NUMBER_GRAMMAR_DIGITS 16 /* on either side of the point */

struct number_bound {
	const char *text; /* a decimal without an exponent: -12.5; NULL: none */
	bool excluded;    /* the bound itself is not within */
};

/* DB_E_RANGE: no number fits. DB_E_LIMIT: a bound has more digits than that, or an exponent. */
enum db_err number_grammar(const struct number_bound *least, const struct number_bound *most, struct buf *out);

#endif
