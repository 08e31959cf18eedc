/* Inside of wire/: reading members of parsed objects, writing members that may be left out, and the pair of functions that
 * every message has. Readers never stop early: the first fault is kept in `failed` and reported once at the end. */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include "core/arena.h"
#include "core/error.h"
#include "core/json.h"
#include "wire/message.h"

struct wire_reader {
	struct arena *arena;
	struct error *error; /* may be NULL */
	const char *what;    /* what is being read, for sentences: "heartbeat" */
	enum db_err failed;  /* the first fault */
};

/* Records a fault unless there was one before. */
void wire_fault(struct wire_reader *r, enum db_err code, const char *key, const char *problem);

/* An absent or null member reads as empty, 0 or false. Numbers are clamped to [0, max]. */
struct str wire_read_str(struct wire_reader *r, const json_val *object, const char *key);
int64_t wire_read_int(struct wire_reader *r, const json_val *object, const char *key, int64_t max);
double wire_read_number(struct wire_reader *r, const json_val *object, const char *key, double max);
bool wire_read_bool(struct wire_reader *r, const json_val *object, const char *key);
enum wire_tri wire_read_tri(struct wire_reader *r, const json_val *object, const char *key);
/* NULL when absent. */
const json_val *wire_read_object(struct wire_reader *r, const json_val *object, const char *key);
/* Elements of an array member: *items gets zeroed room for all of them, the return value iterates. More than max_items is
 * DB_E_LIMIT. */
struct json_iter wire_read_array(struct wire_reader *r, const json_val *object, const char *key, size_t max_items,
                                 size_t item_size, void **items);
struct wire_pairs wire_read_pairs(struct wire_reader *r, const json_val *object, const char *key);
struct wire_strings wire_read_strings(struct wire_reader *r, const json_val *object, const char *key, size_t max_items);
bool wire_read_payload(struct wire_reader *r, const json_val *object, const char *key, struct wire_payload *out);
/* As above, but absent is a fault. */
struct str wire_require_str(struct wire_reader *r, const json_val *object, const char *key);
void wire_require(struct wire_reader *r, const json_val *object, const char *key);
/* Checks that an array's element is an object. */
bool wire_is_object(struct wire_reader *r, const json_val *element, const char *key);

/* Index of a word in an array of names, or `otherwise`. */
unsigned wire_word(struct str word, const char *const names[], size_t count, unsigned otherwise);
#define WIRE_WORD(word, names, otherwise) wire_word((word), (names), sizeof(names) / sizeof *(names), (otherwise))

/* Byte order, as strcmp. */
int wire_order(struct str a, struct str b);

/* The document path of wire_decode, without the fast one before it. */
enum db_err wire_decode_general(struct str text, struct arena *arena, struct wire_message *out, struct error *error);

/* Written only when not empty, 0, false or unknown. */
void wire_put_str(struct json_writer *w, const char *key, struct str value);
void wire_put_int(struct json_writer *w, const char *key, int64_t value);
void wire_put_number(struct json_writer *w, const char *key, double value);
void wire_put_true(struct json_writer *w, const char *key, bool value);
void wire_put_tri(struct json_writer *w, const char *key, enum wire_tri value);
void wire_put_pairs(struct json_writer *w, const char *key, const struct wire_pairs *pairs);
/* Always written. */
void wire_put_payload(struct json_writer *w, const char *key, const struct wire_payload *payload);

/* One message each: `root` is its object; the writers add members to an open object that already has its type. */
void wire_read_register(struct wire_reader *r, const json_val *root, struct str text, struct wire_register *out);
void wire_write_register(struct json_writer *w, const struct wire_register *in);
void wire_read_models_update(struct wire_reader *r, const json_val *root, struct wire_models_update *out);
void wire_write_models_update(struct json_writer *w, const struct wire_models_update *in);
void wire_read_heartbeat(struct wire_reader *r, const json_val *root, struct wire_heartbeat *out);
void wire_write_heartbeat(struct json_writer *w, const struct wire_heartbeat *in);
void wire_read_request(struct wire_reader *r, const json_val *root, struct wire_request *out);
void wire_write_request(struct json_writer *w, const struct wire_request *in);
void wire_read_credit(struct wire_reader *r, const json_val *root, struct wire_credit *out);
void wire_write_credit(struct json_writer *w, const struct wire_credit *in);
void wire_read_chunk(struct wire_reader *r, const json_val *root, struct wire_chunk *out);
void wire_write_chunk(struct json_writer *w, const struct wire_chunk *in);
void wire_read_complete(struct wire_reader *r, const json_val *root, struct wire_complete *out);
void wire_write_complete(struct json_writer *w, const struct wire_complete *in);
void wire_read_error(struct wire_reader *r, const json_val *root, struct wire_error *out);
void wire_write_error(struct json_writer *w, const struct wire_error *in);
void wire_read_challenge(struct wire_reader *r, const json_val *root, struct wire_challenge *out);
void wire_write_challenge(struct json_writer *w, const struct wire_challenge *in);
void wire_read_attestation_response(struct wire_reader *r, const json_val *root, struct wire_attestation_response *out);
void wire_write_attestation_response(struct json_writer *w, const struct wire_attestation_response *in);
void wire_read_code_response(struct wire_reader *r, const json_val *root, struct wire_code_attestation_response *out);
void wire_write_code_response(struct json_writer *w, const struct wire_code_attestation_response *in);
void wire_read_trust_status(struct wire_reader *r, const json_val *root, struct wire_trust_status *out);
void wire_write_trust_status(struct json_writer *w, const struct wire_trust_status *in);
void wire_read_runtime_status(struct wire_reader *r, const json_val *root, struct wire_runtime_status *out);
void wire_write_runtime_status(struct json_writer *w, const struct wire_runtime_status *in);
void wire_read_prefetch_model(struct wire_reader *r, const json_val *root, struct wire_prefetch_model *out);
void wire_write_prefetch_model(struct json_writer *w, const struct wire_prefetch_model *in);
void wire_read_desired_models(struct wire_reader *r, const json_val *root, struct wire_desired_models *out);
void wire_write_desired_models(struct json_writer *w, const struct wire_desired_models *in);
void wire_read_load_status(struct wire_reader *r, const json_val *root, struct wire_load_model_status *out);
void wire_write_load_status(struct json_writer *w, const struct wire_load_model_status *in);
void wire_read_prefetch_status(struct wire_reader *r, const json_val *root, struct wire_prefetch_model_status *out);
void wire_write_prefetch_status(struct json_writer *w, const struct wire_prefetch_model_status *in);

#endif
