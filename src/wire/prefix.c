#include "wire/prefix.h"

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t wire_prefixes_read(struct str text, uint64_t *out, size_t max)
{
	size_t count = text.len / WIRE_PREFIX_HEX;
	if (text.len % WIRE_PREFIX_HEX || count > max)
		return 0;
	for (size_t i = 0; i < count; i++) {
		out[i] = 0;
		for (size_t j = 0; j < WIRE_PREFIX_HEX; j++) {
			int digit = digit_of(text.at[i * WIRE_PREFIX_HEX + j]);
			if (digit < 0)
				return 0;
			out[i] = out[i] << 4 | (uint64_t)digit;
		}
	}
	return count;
}

struct str wire_prefixes_write(const uint64_t *names, size_t count, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < WIRE_PREFIX_HEX; j++)
			out[i * WIRE_PREFIX_HEX + j] = digits[names[i] >> (60 - 4 * j) & 15];
	return (struct str){out, count * WIRE_PREFIX_HEX};
}
