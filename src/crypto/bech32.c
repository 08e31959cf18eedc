#include "crypto/bech32.h"

#include "crypto/secret.h"

#define CHECKSUM_CHARS 6
#define SYMBOLS_MAX    ((BECH32_MAX_BYTES * 8 + 4) / 5 + CHECKSUM_CHARS)

static const char alphabet[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

static uint32_t polymod(uint32_t sum, uint8_t value)
{
	static const uint32_t generator[] = {0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3};
	uint32_t top = sum >> 25;
	sum = (sum & 0x1ffffff) << 5 ^ value;
	for (size_t i = 0; i < 5; i++)
		if (top >> i & 1)
			sum ^= generator[i];
	return sum;
}

static uint32_t sum_prefix(const char *prefix)
{
	uint32_t sum = 1;
	for (const char *at = prefix; *at; at++)
		sum = polymod(sum, (uint8_t)((uint8_t)*at >> 5));
	sum = polymod(sum, 0);
	for (const char *at = prefix; *at; at++)
		sum = polymod(sum, (uint8_t)*at & 31);
	return sum;
}

void bech32_encode(const char *prefix, const uint8_t *bytes, size_t len, char out[BECH32_SIZE])
{
	uint32_t sum = sum_prefix(prefix), bits = 0, held = 0;
	size_t at = strlen(prefix);
	memcpy(out, prefix, at);
	out[at++] = '1';
	for (size_t i = 0; i < len || held > 0;) {
		if (held < 5 && i < len) {
			bits = bits << 8 | bytes[i++];
			held += 8;
		} else if (held < 5) {
			bits <<= 5 - held;
			held = 5;
		}
		held -= 5;
		uint8_t symbol = (uint8_t)(bits >> held & 31);
		sum = polymod(sum, symbol);
		out[at++] = alphabet[symbol];
	}
	for (size_t i = 0; i < CHECKSUM_CHARS; i++)
		sum = polymod(sum, 0);
	for (size_t i = 0; i < CHECKSUM_CHARS; i++)
		out[at++] = alphabet[(sum ^ 1) >> 5 * (CHECKSUM_CHARS - 1 - i) & 31];
	out[at] = '\0';
	secret_wipe(&bits, sizeof bits);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool mixes_cases(struct str text)
{
	bool small = false, large = false;
	for (size_t i = 0; i < text.len; i++) {
		small |= text.at[i] >= 'a' && text.at[i] <= 'z';
		large |= text.at[i] >= 'A' && text.at[i] <= 'Z';
	}
	return small && large;
}

/* The symbols behind the prefix, checksum included; false when one is none or the sum is wrong. */
static bool read_symbols(struct str text, const char *prefix, uint8_t *symbols, size_t count)
{
	uint32_t sum = sum_prefix(prefix);
	size_t skip = strlen(prefix);
	for (size_t i = 0; i < skip; i++)
		if (lower(text.at[i]) != prefix[i])
			return false;
	if (text.at[skip] != '1')
		return false;
	for (size_t i = 0; i < count; i++) {
		char wanted = lower(text.at[skip + 1 + i]);
		const char *found = wanted ? strchr(alphabet, wanted) : NULL;
		if (!found)
			return false;
		symbols[i] = (uint8_t)(found - alphabet);
		sum = polymod(sum, symbols[i]);
	}
	return sum == 1;
}

enum db_err bech32_decode(struct str text, const char *prefix, uint8_t *out, size_t len)
{
	uint8_t symbols[SYMBOLS_MAX];
	uint32_t bits = 0, held = 0;
	size_t data = (len * 8 + 4) / 5, count = data + CHECKSUM_CHARS, written = 0;
	if (len > BECH32_MAX_BYTES || text.len != strlen(prefix) + 1 + count || mixes_cases(text) ||
	    !read_symbols(text, prefix, symbols, count)) {
		secret_wipe(symbols, sizeof symbols);
		return DB_E_INVALID;
	}
	for (size_t i = 0; i < data; i++) {
		bits = bits << 5 | symbols[i];
		held += 5;
		if (held >= 8) {
			held -= 8;
			out[written++] = (uint8_t)(bits >> held);
		}
	}
	bool padded = (bits & ((1u << held) - 1)) == 0;
	secret_wipe(symbols, sizeof symbols);
	secret_wipe(&bits, sizeof bits);
	return padded && written == len ? DB_OK : DB_E_INVALID;
}
