#include "coordinator/money/stripe_event.h"

#include "core/encode.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#include <stdio.h>
#include <stdlib.h>

#define SIGNATURES_MAX 16
#define CENTS_MAX      (INT64_C(1) << 40)

/* --- signature --- */

static bool sign(struct str time, struct str body, struct str secret, uint8_t out[SHA256_BYTES])
{
	struct buf signed_text;
	buf_init(&signed_text, time.len + body.len + 1);
	buf_append_str(&signed_text, time);
	buf_append_byte(&signed_text, '.');
	buf_append_str(&signed_text, body);
	bool good = !signed_text.failed;
	if (good)
		hmac_sha256(secret.at, secret.len, signed_text.at, signed_text.len, out);
	buf_free(&signed_text);
	return good;
}

/* Compares every given signature, so that the time tells nothing. */
static bool any_matches(struct str header, const uint8_t expected[SHA256_BYTES])
{
	struct str rest = header, part, name;
	bool found = false;
	for (int i = 0; rest.len > 0 && i < SIGNATURES_MAX; i++) {
		uint8_t given[SHA256_BYTES];
		rest = str_cut(rest, ',', &part);
		struct str value = str_cut(str_trim(part), '=', &name);
		if (str_is(name, "v1") && !hex_decode(value, given, sizeof given))
			found |= secret_equal(given, expected, sizeof given);
	}
	return found;
}

static bool time_of(struct str header, struct str *text, int64_t *seconds)
{
	struct str rest = header, part, name;
	while (rest.len > 0) {
		rest = str_cut(rest, ',', &part);
		*text = str_cut(str_trim(part), '=', &name);
		if (str_is(name, "t"))
			return str_to_i64(*text, seconds) && *seconds > 0;
	}
	return false;
}

enum db_err stripe_signature_check(struct str header, struct str body, struct str secret, int64_t now_s)
{
	uint8_t expected[SHA256_BYTES];
	struct str time;
	int64_t seconds;
	if (secret.len == 0 || !time_of(header, &time, &seconds) || !sign(time, body, secret, expected))
		return DB_E_DENIED;
	bool near = seconds >= now_s - STRIPE_TOLERANCE_S && seconds <= now_s + STRIPE_TOLERANCE_S;
	return any_matches(header, expected) && near ? DB_OK : DB_E_DENIED;
}

/* --- events --- */

static enum stripe_event_kind kind_of(const char *type)
{
	static const struct {
		const char *type;
		enum stripe_event_kind kind;
	} kinds[] = {
	    {"checkout.session.completed", STRIPE_EVENT_CHECKOUT_COMPLETED},
	    {"checkout.session.async_payment_succeeded", STRIPE_EVENT_CHECKOUT_COMPLETED},
	    {"checkout.session.expired", STRIPE_EVENT_CHECKOUT_EXPIRED},
	    {"charge.refunded", STRIPE_EVENT_CHARGE_REFUNDED},
	    {"charge.dispute.funds_withdrawn", STRIPE_EVENT_DISPUTE_WITHDRAWN},
	    {"charge.dispute.funds_reinstated", STRIPE_EVENT_DISPUTE_REINSTATED},
	    {"account.updated", STRIPE_EVENT_ACCOUNT_UPDATED},
	    {"payout.paid", STRIPE_EVENT_PAYOUT_PAID},
	    {"payout.failed", STRIPE_EVENT_PAYOUT_FAILED},
	    {"payout.canceled", STRIPE_EVENT_PAYOUT_FAILED},
	    {"transfer.reversed", STRIPE_EVENT_TRANSFER_REVERSED},
	};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(type, kinds[i].type) == 0)
			return kinds[i].kind;
	return STRIPE_EVENT_OTHER;
}

/* Empty when it is absent, no text, or longer than any that we gave out or could keep. */
static void read_text(const json_val *object, const char *name, char *out, size_t size)
{
	struct str text;
	if (!json_as_str(json_get(object, name), &text) || !str_copy(text, out, size))
		out[0] = '\0';
}

/* An id, or the whole object when it was expanded. */
static void read_reference(const json_val *object, const char *name, char *out, size_t size)
{
	const json_val *value = json_get(object, name);
	if (json_type(value) == JSON_OBJECT)
		read_text(value, "id", out, size);
	else
		read_text(object, name, out, size);
}

static int64_t read_cents(const json_val *object, const char *name)
{
	int64_t cents;
	return json_as_i64(json_get(object, name), &cents) && cents >= 0 && cents <= CENTS_MAX ? cents : -1;
}

static void read_object(const json_val *object, struct stripe_event *out)
{
	struct str text;
	const json_val *metadata = json_get(object, "metadata");
	read_text(object, "id", out->object_id, sizeof out->object_id);
	read_reference(object, "payment_intent", out->payment_intent, sizeof out->payment_intent);
	read_text(metadata, "consumer_key", out->account_id, sizeof out->account_id);
	read_text(metadata, "billing_session_id", out->deposit_id, sizeof out->deposit_id);
	read_text(metadata, "withdrawal_id", out->withdrawal_id, sizeof out->withdrawal_id);
	out->is_usd = json_as_str(json_get(object, "currency"), &text) && str_eq_nocase(text, STR("usd"));
	out->is_paid = json_as_str(json_get(object, "payment_status"), &text) && str_is(text, "paid");
	switch (out->kind) {
	case STRIPE_EVENT_CHECKOUT_COMPLETED:
	case STRIPE_EVENT_CHECKOUT_EXPIRED:
		out->cents = read_cents(object, "amount_total");
		break;
	case STRIPE_EVENT_CHARGE_REFUNDED:
		out->cents = read_cents(object, "amount_refunded");
		break;
	default:
		out->cents = read_cents(object, "amount");
	}
}

enum db_err stripe_event_read(struct str body, struct stripe_event *out)
{
	struct json_doc *doc = json_parse(body, NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL, *object = json_get(json_get(root, "data"), "object");
	*out = (struct stripe_event){.cents = -1};
	read_text(root, "id", out->id, sizeof out->id);
	read_text(root, "type", out->type, sizeof out->type);
	if (!json_as_i64(json_get(root, "created"), &out->created_s) || out->created_s < 0)
		out->created_s = 0;
	out->kind = kind_of(out->type);
	bool good = out->id[0] && json_type(json_get(root, "type")) == JSON_STRING && json_type(object) == JSON_OBJECT;
	if (good)
		read_object(object, out);
	json_free(doc);
	return good ? DB_OK : DB_E_INVALID;
}

/* --- connected accounts --- */

static bool is_true(const json_val *object, const char *name)
{
	bool value = false;
	return json_as_bool(json_get(object, name), &value) && value;
}

static void read_due(const json_val *requirements, struct stripe_account *out)
{
	struct json_iter iter = json_iter(json_get(requirements, "currently_due"));
	const json_val *one;
	struct str name;
	size_t len = 0;
	while ((one = json_next(&iter, NULL))) {
		if (!json_as_str(one, &name) || len + name.len + 2 > sizeof out->currently_due)
			continue;
		if (len > 0)
			out->currently_due[len++] = ',';
		memcpy(out->currently_due + len, name.at, name.len);
		len += name.len;
	}
	out->currently_due[len] = '\0';
}

static const json_val *destination_of(const json_val *object)
{
	struct json_iter iter = json_iter(json_get(json_get(object, "external_accounts"), "data"));
	const json_val *one, *first = NULL;
	while ((one = json_next(&iter, NULL))) {
		first = first ? first : one;
		if (is_true(one, "default_for_currency"))
			return one;
	}
	return first;
}

static void read_destination(const json_val *object, struct stripe_account *out)
{
	struct str kind, funding;
	const json_val *destination = destination_of(object);
	if (!destination || !json_as_str(json_get(destination, "object"), &kind))
		return;
	bool is_card = str_is(kind, "card");
	snprintf(out->destination_type, sizeof out->destination_type, "%s", is_card ? "card" : "bank");
	read_text(destination, "last4", out->destination_last4, sizeof out->destination_last4);
	read_text(destination, "fingerprint", out->payee, sizeof out->payee);
	out->instant_eligible = is_card && json_as_str(json_get(destination, "funding"), &funding) && str_is(funding, "debit");
}

bool stripe_account_read(const json_val *object, struct stripe_account *out)
{
	struct str reason = STR_NONE;
	const json_val *requirements = json_get(object, "requirements");
	*out = (struct stripe_account){0};
	read_text(object, "id", out->id, sizeof out->id);
	read_text(object, "country", out->country, sizeof out->country);
	read_due(requirements, out);
	read_destination(object, out);
	(void)json_as_str(json_get(requirements, "disabled_reason"), &reason);
	const char *status = "pending";
	if (str_starts(reason, STR("rejected")))
		status = "rejected";
	else if (is_true(object, "payouts_enabled"))
		status = "ready";
	else if (is_true(object, "details_submitted") && out->currently_due[0])
		status = "restricted";
	snprintf(out->status, sizeof out->status, "%s", status);
	return out->id[0] != '\0';
}
