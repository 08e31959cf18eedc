/* Files in the format of age (age-encryption.org/v1) for one X25519 recipient: what `age -r` and `age -d -i` write and read.
 * A stream of chunks of 64 KiB, each authenticated with its place and whether it is the last: a file that was cut, joined or
 * changed is refused, and nothing of a chunk is given out before it was found genuine. Thread: one at a time for each object.
 */
#ifndef CRYPTO_AGE_H
#define CRYPTO_AGE_H

#include "core/buf.h"

#define AGE_KEY_BYTES   32
#define AGE_KEY_SIZE    80 /* room for either text form with its NUL */
#define AGE_CHUNK_BYTES 65536
#define AGE_HEADER_MAX  16384 /* of the headers that are read */

struct age_identity {
	uint8_t secret[AGE_KEY_BYTES];
};
struct age_recipient {
	uint8_t key[AGE_KEY_BYTES];
};

void age_identity_new(struct age_identity *identity);
void age_recipient_of(const struct age_identity *identity, struct age_recipient *out);
/* "AGE-SECRET-KEY-1..." and "age1..." (Bech32). DB_E_INVALID for anything else. */
enum db_err age_identity_parse(struct str text, struct age_identity *out);
enum db_err age_recipient_parse(struct str text, struct age_recipient *out);
void age_identity_write(const struct age_identity *identity, char out[AGE_KEY_SIZE]);
void age_recipient_write(const struct age_recipient *recipient, char out[AGE_KEY_SIZE]);

/* --- writing --- */

struct age_writer;

/* Random parts of a file; given only by tests. */
struct age_random {
	uint8_t file_key[16], nonce[16], ephemeral[AGE_KEY_BYTES];
};
/* Appends the header to `out`. NULL when out of memory or the recipient is of low order. random NULL: made. */
struct age_writer *age_writer_new(const struct age_recipient *recipient, const struct age_random *random, struct buf *out);
/* Appends what became whole chunks. DB_E_LIMIT when `out` is full. */
enum db_err age_write(struct age_writer *writer, struct str plain, struct buf *out);
/* The last chunk. Without it no reader takes the file for whole. */
enum db_err age_write_end(struct age_writer *writer, struct buf *out);
void age_writer_free(struct age_writer *writer); /* wipes; NULL is allowed */

/* --- reading --- */

struct age_reader;

struct age_reader *age_reader_new(const struct age_identity *identity); /* NULL when out of memory */
/* Takes the next bytes of the file and appends what was found genuine. DB_E_INVALID: no age file; DB_E_DENIED: made for another
 * recipient; DB_E_CRYPTO: changed. `error` gets a sentence. Nothing may be read after an error. */
enum db_err age_read(struct age_reader *reader, struct str bytes, struct buf *plain, struct error *error);
/* The file's end: its last chunk. DB_E_CRYPTO when it was cut off. */
enum db_err age_read_end(struct age_reader *reader, struct buf *plain, struct error *error);
void age_reader_free(struct age_reader *reader); /* wipes; NULL is allowed */

#endif
