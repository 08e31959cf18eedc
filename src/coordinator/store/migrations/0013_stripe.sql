-- Money from and to Stripe (billing 7.2, 9, 10).

CREATE TABLE deposits (
	id             TEXT    PRIMARY KEY,
	account        INTEGER NOT NULL REFERENCES accounts (ref),
	amount         INTEGER NOT NULL CHECK (amount > 0),
	status         TEXT    NOT NULL CHECK (status IN ('pending', 'completed', 'expired')),
	external_id    TEXT    NOT NULL DEFAULT '', -- of the checkout session
	payment_intent TEXT    NOT NULL DEFAULT '',
	referral_code  TEXT    NOT NULL DEFAULT '',
	refunded       INTEGER NOT NULL DEFAULT 0, -- what Stripe gave back, so far
	disputed       INTEGER NOT NULL DEFAULT 0, -- what a bank holds back at the moment
	disputed_s     INTEGER NOT NULL DEFAULT 0, -- when Stripe said so
	reversed       INTEGER NOT NULL DEFAULT 0, -- of the account, in the ledger
	lost           INTEGER NOT NULL DEFAULT 0, -- what the account had spent already, in the ledger
	created_us     INTEGER NOT NULL,
	completed_us   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX deposits_external ON deposits (external_id) WHERE external_id <> '';
CREATE UNIQUE INDEX deposits_payment ON deposits (payment_intent) WHERE payment_intent <> '';
CREATE INDEX deposits_account ON deposits (account, created_us);

CREATE TABLE webhook_events (
	source      TEXT    NOT NULL,
	event_id    TEXT    NOT NULL,
	type        TEXT    NOT NULL,
	received_us INTEGER NOT NULL,
	PRIMARY KEY (source, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_events_received ON webhook_events (received_us);

CREATE TABLE connect_accounts (
	account           INTEGER PRIMARY KEY REFERENCES accounts (ref),
	stripe_account    TEXT    NOT NULL UNIQUE,
	status            TEXT    NOT NULL,
	country           TEXT    NOT NULL,
	destination_type  TEXT    NOT NULL DEFAULT '',
	destination_last4 TEXT    NOT NULL DEFAULT '',
	instant_eligible  INTEGER NOT NULL DEFAULT 0,
	updated_us        INTEGER NOT NULL
) STRICT;

CREATE TABLE withdrawals (
	id              TEXT    PRIMARY KEY,
	account         INTEGER NOT NULL REFERENCES accounts (ref),
	stripe_account  TEXT    NOT NULL,
	amount          INTEGER NOT NULL CHECK (amount > 0),
	fee             INTEGER NOT NULL,
	net             INTEGER NOT NULL,
	method          TEXT    NOT NULL,
	status          TEXT    NOT NULL CHECK (status IN ('pending', 'transferred', 'submitted', 'paid', 'reversing', 'failed')),
	transfer_id     TEXT    NOT NULL DEFAULT '',
	payout_id       TEXT    NOT NULL DEFAULT '',
	failure_reason  TEXT    NOT NULL DEFAULT '',
	refunded        INTEGER NOT NULL DEFAULT 0,
	attempts        INTEGER NOT NULL DEFAULT 0,
	next_attempt_us INTEGER NOT NULL DEFAULT 0,
	created_us      INTEGER NOT NULL,
	updated_us      INTEGER NOT NULL
) STRICT;
CREATE INDEX withdrawals_account ON withdrawals (account, created_us);
CREATE INDEX withdrawals_unfinished ON withdrawals (next_attempt_us) WHERE status IN ('pending', 'transferred', 'submitted', 'reversing');
CREATE INDEX withdrawals_payout ON withdrawals (payout_id) WHERE payout_id <> '';
