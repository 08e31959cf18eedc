/* Base64 (RFC 4648 standard alphabet, padded, strict: protocol-and-trust "Conventions") and lower-case hex. Thread: any. */
#ifndef CORE_ENCODE_H
#define CORE_ENCODE_H

#include "core/error.h"
#include "core/str.h"

#define BASE64_ENCODED_LEN(n) ((((n) + 2) / 3) * 4)
#define BASE64_DECODED_MAX(n) (((n) / 4) * 3)

/* Writes BASE64_ENCODED_LEN(len) characters and no NUL; returns that count. */
size_t base64_encode(const void *bytes, size_t len, char *out);
/* `out` needs BASE64_DECODED_MAX(text.len) bytes. DB_E_INVALID on any character, padding or trailing bit that is not
 * canonical. */
enum db_err base64_decode(struct str text, uint8_t *out, size_t *out_len);
/* Exactly `len` decoded bytes or DB_E_INVALID. */
enum db_err base64_decode_exact(struct str text, uint8_t *out, size_t len);
/* URL-safe alphabet without padding (JWT). */
#define BASE64URL_DECODED_MAX(n) ((n) / 4 * 3 + (n) % 4)
size_t base64url_encode(const void *bytes, size_t len, char *out);
/* `out` needs BASE64URL_DECODED_MAX(text.len) bytes. As strict as base64_decode: no padding, no trailing bits. */
enum db_err base64url_decode(struct str text, uint8_t *out, size_t *out_len);

void hex_encode(const void *bytes, size_t len, char *out); /* 2 * len characters and a NUL */
/* Both cases accepted. DB_E_INVALID unless text is exactly 2 * len hex digits. */
enum db_err hex_decode(struct str text, uint8_t *out, size_t len);

#endif
