#include "core/version.h"

/* Leading decimal digits of a part; saturates instead of overflowing. */
static uint64_t part_value(struct str part)
{
	size_t digits = 0;
	while (digits < part.len && part.at[digits] >= '0' && part.at[digits] <= '9')
		digits++;
	uint64_t value = 0;
	if (digits > 0 && !str_to_u64(str_sub(part, 0, digits), &value))
		value = UINT64_MAX;
	return value;
}

int version_compare(struct str a, struct str b)
{
	if (a.len == 0 || b.len == 0)
		return (a.len != 0) - (b.len != 0);
	while (a.at || b.at) {
		struct str part_a, part_b;
		a = str_cut(a, '.', &part_a);
		b = str_cut(b, '.', &part_b);
		uint64_t value_a = part_value(part_a), value_b = part_value(part_b);
		if (value_a != value_b)
			return value_a < value_b ? -1 : 1;
	}
	return 0;
}
