#include "core/utf8.h"

/* Length of the character at `at` and whether it is whole and well formed (Unicode table 3-7). */
static size_t character_len(const unsigned char *at, size_t left)
{
	unsigned char lead = at[0];
	if (lead < 0x80)
		return 1;
	size_t len = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
	if (lead < 0xC2 || lead > 0xF4 || left < len)
		return 0;
	unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
	unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
	if (at[1] < low || at[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((at[i] & 0xC0) != 0x80)
			return 0;
	return len;
}

size_t utf8_next(struct str text)
{
	return text.len ? character_len((const unsigned char *)text.at, text.len) : 0;
}

static size_t ascii_prefix(struct str text, size_t from)
{
	while (from + sizeof(uint64_t) <= text.len) {
		uint64_t word;
		memcpy(&word, text.at + from, sizeof word);
		if (word & UINT64_C(0x8080808080808080))
			break;
		from += sizeof word;
	}
	return from;
}

bool utf8_valid(struct str text)
{
	for (size_t at = 0; at < text.len;) {
		at = ascii_prefix(text, at);
		if (at == text.len)
			break;
		size_t len = utf8_next(str_sub(text, at, text.len));
		if (len == 0)
			return false;
		at += len;
	}
	return true;
}

size_t utf8_incomplete_tail(struct str text)
{
	for (size_t back = 1; back <= 3 && back <= text.len; back++) {
		unsigned char c = (unsigned char)text.at[text.len - back];
		if ((c & 0xC0) == 0x80)
			continue;
		size_t need = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
		return need > back ? back : 0;
	}
	return 0;
}
