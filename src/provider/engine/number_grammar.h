/* Numbers between bounds, as a piece of a GBNF grammar: what a JSON schema says of a number. Every text that the piece takes is
 * a JSON number within the bounds; every such number of up to 16 digits before and after the point (more before it where a
 * bound has more) has a text that it takes, without an exponent. Of integers the texts have no point. Pure; thread: any. */
#ifndef PROVIDER_NUMBER_GRAMMAR_H
#define PROVIDER_NUMBER_GRAMMAR_H

#include "core/buf.h"
#include "core/error.h"

#define NUMBER_GRAMMAR_DIGITS  16 /* on either side of the point */
#define NUMBER_GRAMMAR_LONGEST 20 /* before the point, in a bound */

struct number_bound {
	const char *text; /* as JSON writes numbers; NULL: none */
	bool excluded;    /* the bound itself is not within */
};

/* DB_E_RANGE: no number fits. DB_E_LIMIT: those that fit have more than 20 digits before the point. DB_E_INVALID: a bound is no
 * number. A bound that no number of so few digits comes near holds none back. */
enum db_err number_grammar(const struct number_bound *least, const struct number_bound *most, bool integers, struct buf *out);

#endif
