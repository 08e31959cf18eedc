-- Referrals (billing 8.1). What they paid is in the ledger, and summed by hour.

CREATE TABLE referrers (
	account    INTEGER PRIMARY KEY REFERENCES accounts (ref),
	code       TEXT    NOT NULL UNIQUE CHECK (code <> ''), -- upper case
	created_us INTEGER NOT NULL
) STRICT;
CREATE TABLE referrals (
	account    INTEGER PRIMARY KEY REFERENCES accounts (ref), -- who was referred: once, for good
	referrer   INTEGER NOT NULL REFERENCES referrers (account),
	source     TEXT    NOT NULL, -- 'apply', 'signup', 'checkout'
	created_us INTEGER NOT NULL,
	CHECK (account <> referrer)
) STRICT;
CREATE INDEX referrals_referrer ON referrals (referrer);

ALTER TABLE earnings_hours ADD COLUMN referral_jobs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE earnings_hours ADD COLUMN referrals INTEGER NOT NULL DEFAULT 0; -- of `rewards`, what referrals paid
