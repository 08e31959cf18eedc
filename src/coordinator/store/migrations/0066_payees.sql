-- Whom Stripe pays for an account: its fingerprint of the bank account or card, the same for all connected accounts that have it. Empty
-- while Stripe has not told one.

ALTER TABLE connect_accounts ADD COLUMN payee TEXT NOT NULL DEFAULT '';
CREATE INDEX connect_accounts_payee ON connect_accounts (payee) WHERE payee <> '';
