#include "wire/codec.h"

#include <limits.h>

void wire_fault(struct wire_reader *r, enum db_err code, const char *key, const char *problem)
{
	if (r->failed)
		return;
	r->failed = error_set(r->error, code, "%s: %s %s", r->what, key, problem);
}

struct str wire_read_str(struct wire_reader *r, const json_val *object, const char *key)
{
	struct str text = STR_NONE;
	const json_val *val = json_get_some(object, key);
	if (val && !json_as_str(val, &text))
		wire_fault(r, DB_E_INVALID, key, "must be a string");
	return text;
}

struct str wire_require_str(struct wire_reader *r, const json_val *object, const char *key)
{
	wire_require(r, object, key);
	return wire_read_str(r, object, key);
}

void wire_require(struct wire_reader *r, const json_val *object, const char *key)
{
	if (!json_get_some(object, key))
		wire_fault(r, DB_E_INVALID, key, "is missing");
}

int64_t wire_read_int(struct wire_reader *r, const json_val *object, const char *key, int64_t max)
{
	int64_t value = 0;
	const json_val *val = json_get_some(object, key);
	if (val && !json_as_i64(val, &value))
		wire_fault(r, DB_E_INVALID, key, "must be an integer");
	if (value < 0)
		return 0;
	return value < max ? value : max;
}

double wire_read_number(struct wire_reader *r, const json_val *object, const char *key, double max)
{
	double value = 0;
	const json_val *val = json_get_some(object, key);
	if (val && !json_as_double(val, &value))
		wire_fault(r, DB_E_INVALID, key, "must be a number");
	if (!(value > 0)) /* also NaN and -0 */
		return 0;
	return value < max ? value : max;
}

enum wire_tri wire_read_tri(struct wire_reader *r, const json_val *object, const char *key)
{
	bool value = false;
	const json_val *val = json_get_some(object, key);
	if (!val)
		return WIRE_UNKNOWN;
	if (!json_as_bool(val, &value))
		wire_fault(r, DB_E_INVALID, key, "must be true or false");
	return wire_tri_of(value);
}

bool wire_read_bool(struct wire_reader *r, const json_val *object, const char *key)
{
	return wire_read_tri(r, object, key) == WIRE_TRUE;
}

bool wire_is_object(struct wire_reader *r, const json_val *element, const char *key)
{
	if (json_type(element) == JSON_OBJECT)
		return true;
	if (json_type(element) != JSON_NULL)
		wire_fault(r, DB_E_INVALID, key, "must hold objects only");
	return false;
}

const json_val *wire_read_object(struct wire_reader *r, const json_val *object, const char *key)
{
	const json_val *val = json_get_some(object, key);
	if (!val || json_type(val) == JSON_OBJECT)
		return val;
	wire_fault(r, DB_E_INVALID, key, "must be an object");
	return NULL;
}

/* Room for every member of a container, or an empty iterator after a fault. */
static struct json_iter items_of(struct wire_reader *r, const json_val *container, const char *key, size_t max_items,
                                 size_t item_size, void **items)
{
	size_t count = json_len(container);
	*items = NULL;
	if (count > max_items) {
		wire_fault(r, DB_E_LIMIT, key, "has too many entries");
		return json_iter(NULL);
	}
	if (count == 0)
		return json_iter(NULL);
	*items = arena_alloc(r->arena, count * item_size);
	if (!*items) {
		wire_fault(r, DB_E_NOMEM, key, "does not fit into memory");
		return json_iter(NULL);
	}
	return json_iter(container);
}

struct json_iter wire_read_array(struct wire_reader *r, const json_val *object, const char *key, size_t max_items,
                                 size_t item_size, void **items)
{
	const json_val *val = json_get_some(object, key);
	if (val && json_type(val) != JSON_ARRAY) {
		wire_fault(r, DB_E_INVALID, key, "must be an array");
		val = NULL;
	}
	return items_of(r, val, key, max_items, item_size, items);
}

struct wire_pairs wire_read_pairs(struct wire_reader *r, const json_val *object, const char *key)
{
	struct wire_pairs pairs = {NULL, 0};
	const json_val *map = wire_read_object(r, object, key);
	void *items;
	struct json_iter it = items_of(r, map, key, WIRE_MAX_PAIRS, sizeof(struct wire_pair), &items);
	pairs.at = items;
	struct str name;
	for (json_val *val; (val = json_next(&it, &name));) {
		struct wire_pair *pair = &pairs.at[pairs.count];
		pair->key = name;
		if (json_as_str(val, &pair->value))
			pairs.count++;
		else if (json_type(val) != JSON_NULL)
			wire_fault(r, DB_E_INVALID, key, "must hold strings only");
	}
	return pairs;
}

struct wire_strings wire_read_strings(struct wire_reader *r, const json_val *object, const char *key, size_t max_items)
{
	struct wire_strings strings = {NULL, 0};
	void *items;
	struct json_iter it = wire_read_array(r, object, key, max_items, sizeof(struct str), &items);
	strings.at = items;
	for (json_val *val; (val = json_next(&it, NULL));) {
		if (json_as_str(val, &strings.at[strings.count]))
			strings.count++;
		else if (json_type(val) != JSON_NULL)
			wire_fault(r, DB_E_INVALID, key, "must hold strings only");
	}
	return strings;
}

bool wire_read_payload(struct wire_reader *r, const json_val *object, const char *key, struct wire_payload *out)
{
	const json_val *payload = wire_read_object(r, object, key);
	if (!payload)
		return false;
	out->sender_key = wire_read_str(r, payload, "ephemeral_public_key");
	out->ciphertext = wire_read_str(r, payload, "ciphertext");
	return true;
}

void wire_put_str(struct json_writer *w, const char *key, struct str value)
{
	if (value.len)
		json_put_str(w, key, value);
}

void wire_put_int(struct json_writer *w, const char *key, int64_t value)
{
	if (value)
		json_put_i64(w, key, value);
}

void wire_put_number(struct json_writer *w, const char *key, double value)
{
	if (value > 0 || value < 0)
		json_put_double(w, key, value);
}

void wire_put_true(struct json_writer *w, const char *key, bool value)
{
	if (value)
		json_put_bool(w, key, true);
}

void wire_put_tri(struct json_writer *w, const char *key, enum wire_tri value)
{
	if (value != WIRE_UNKNOWN)
		json_put_bool(w, key, value == WIRE_TRUE);
}

void wire_put_pairs(struct json_writer *w, const char *key, const struct wire_pairs *pairs)
{
	if (!pairs->count)
		return;
	json_key(w, key);
	json_begin_object(w);
	for (size_t i = 0; i < pairs->count; i++) {
		json_key_str(w, pairs->at[i].key);
		json_str(w, pairs->at[i].value);
	}
	json_end_object(w);
}

void wire_put_payload(struct json_writer *w, const char *key, const struct wire_payload *payload)
{
	json_key(w, key);
	json_begin_object(w);
	json_put_str(w, "ephemeral_public_key", payload->sender_key);
	json_put_str(w, "ciphertext", payload->ciphertext);
	json_end_object(w);
}

struct str wire_pairs_get(const struct wire_pairs *pairs, struct str key)
{
	for (size_t i = pairs->count; i-- > 0;) {
		if (str_eq(pairs->at[i].key, key))
			return pairs->at[i].value;
	}
	return STR_NONE;
}

unsigned wire_word(struct str word, const char *const names[], size_t count, unsigned otherwise)
{
	for (unsigned i = 0; i < count; i++) {
		if (str_is(word, names[i]))
			return i;
	}
	return otherwise;
}

static const char *const trust_names[] = {
    [WIRE_TRUST_NONE] = "none",
    [WIRE_TRUST_SELF_SIGNED] = "self_signed",
    [WIRE_TRUST_HARDWARE] = "hardware",
};

const char *wire_trust_name(enum wire_trust trust)
{
	return trust_names[trust];
}

bool wire_trust_parse(struct str name, enum wire_trust *out)
{
	unsigned trust = WIRE_WORD(name, trust_names, UINT_MAX);
	if (trust == UINT_MAX)
		return false;
	*out = (enum wire_trust)trust;
	return true;
}

int wire_order(struct str a, struct str b)
{
	size_t common = a.len < b.len ? a.len : b.len;
	int order = common ? memcmp(a.at, b.at, common) : 0;
	return order ? order : (a.len > b.len) - (a.len < b.len);
}
