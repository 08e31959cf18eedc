/* Any bytes as a time: what parses is within the years 0 to 9999 (a day more for the offset), and formats to what parses alike.
 */
#include <stdlib.h>

#include "core/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {(const char *)data, size};
	char formatted[CLOCK_RFC3339_SIZE];
	int64_t us, again;
	if (clock_parse_rfc3339(text, &us))
		return 0;
	const int64_t first = INT64_C(-62167219200) * 1000000, last = INT64_C(253402300800) * 1000000,
	              day = INT64_C(86400) * 1000000;
	check(us > first - day && us < last + day);
	clock_format_rfc3339(us, formatted);
	check(strlen(formatted) == CLOCK_RFC3339_SIZE - 1);
	check(clock_parse_rfc3339(str_of(formatted), &again) == DB_OK);
	if (us >= first && us < last)
		check(again <= us && us - again < 1000000);
	if (size == CLOCK_RFC3339_SIZE - 1)
		check(str_eq(text, str_of(formatted)));
	return 0;
}
