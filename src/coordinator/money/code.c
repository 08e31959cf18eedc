#include "coordinator/money/code.h"

#include <ctype.h>

bool code_read(struct str given, char *out, size_t size)
{
	struct str code = str_trim(given);
	if (code.len < 3 || code.len >= size || code.at[0] == '-' || code.at[code.len - 1] == '-')
		return false;
	for (size_t i = 0; i < code.len; i++) {
		unsigned char c = (unsigned char)code.at[i];
		if (c > 127 || (!isalnum(c) && c != '-'))
			return false;
		out[i] = (char)toupper(c);
	}
	out[code.len] = '\0';
	return true;
}
