/* What Stripe tells: the signature of its webhooks and the few members of their bodies that we act on (billing 9, 10). Pure;
 * thread: any. */
#ifndef COORDINATOR_STRIPE_EVENT_H
#define COORDINATOR_STRIPE_EVENT_H

#include "core/error.h"
#include "core/json.h"

#define STRIPE_TOLERANCE_S 300
#define STRIPE_ID_SIZE     128

/* DB_OK when one v1 of `header` is the HMAC-SHA256 of "t.body" under the secret and t is within the tolerance of now, either
 * way. DB_E_DENIED otherwise, and for an empty secret. */
enum db_err stripe_signature_check(struct str header, struct str body, struct str secret, int64_t now_s);

enum stripe_event_kind {
	STRIPE_EVENT_OTHER,
	STRIPE_EVENT_CHECKOUT_COMPLETED, /* also checkout.session.async_payment_succeeded */
	STRIPE_EVENT_CHECKOUT_EXPIRED,
	STRIPE_EVENT_CHARGE_REFUNDED,
	STRIPE_EVENT_DISPUTE_WITHDRAWN, /* the bank took the money back */
	STRIPE_EVENT_DISPUTE_REINSTATED,
	STRIPE_EVENT_ACCOUNT_UPDATED,
	STRIPE_EVENT_PAYOUT_PAID,
	STRIPE_EVENT_PAYOUT_FAILED, /* also payout.canceled */
	STRIPE_EVENT_TRANSFER_REVERSED,
};

struct stripe_event {
	char id[STRIPE_ID_SIZE], type[64];
	enum stripe_event_kind kind;
	int64_t created_s;
	char object_id[STRIPE_ID_SIZE];      /* checkout session, charge, dispute, payout, transfer, account */
	char payment_intent[STRIPE_ID_SIZE]; /* of the first four */
	char account_id[STRIPE_ID_SIZE];     /* metadata "consumer_key" */
	char deposit_id[STRIPE_ID_SIZE];     /* metadata "billing_session_id" */
	char withdrawal_id[STRIPE_ID_SIZE];  /* metadata "withdrawal_id" */
	int64_t cents;                       /* amount_total, amount_refunded so far, the dispute's amount */
	bool is_usd, is_paid;
};
/* DB_E_INVALID for what is no event. An amount that is no count of cents reads as -1. */
enum db_err stripe_event_read(struct str body, struct stripe_event *out);

/* A connected account as Stripe shows it (billing 10). */
struct stripe_account {
	char id[STRIPE_ID_SIZE], country[8];
	char status[16];           /* "pending", "restricted", "ready", "rejected" */
	char destination_type[16]; /* "bank", "card" or empty */
	char destination_last4[8];
	char payee[64]; /* Stripe's fingerprint of the destination: the same for whoever else has it; empty = not told */
	bool instant_eligible;
	char currently_due[512]; /* names between commas */
};
bool stripe_account_read(const json_val *object, struct stripe_account *out);

#endif
