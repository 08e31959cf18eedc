/* Dollars as people and partners write them: any bytes give an error or an amount that is written back and read again equal. */
#include <stdint.h>
#include <stdlib.h>

#include "coordinator/money/pricing.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	int64_t uusd = -1, again = -1;
	char text[PRICE_USD_SIZE];
	if (!price_parse_number((struct str){(const char *)bytes, len}, INT64_MAX / 2, &again) &&
	    (again < 0 || again > INT64_MAX / 2))
		abort();
	if (price_parse_usd((struct str){(const char *)bytes, len}, &uusd))
		return 0;
	int64_t number = -1;
	if (uusd <= INT64_MAX / 2 && len < 50 &&
	    (price_parse_number((struct str){(const char *)bytes, len}, INT64_MAX / 2, &number) || number != uusd))
		abort(); /* both read the same dollars */
	if (uusd < 0)
		abort();
	price_format_usd(uusd, text);
	if (price_parse_usd(str_of(text), &again) || again != uusd)
		abort();
	return 0;
}
