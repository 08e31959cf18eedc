-- Money: balances, holds, transfers, the ledger, usage, earnings (billing 5, 7.2, 7.4).
-- The rows of a settlement declare no references: the writer has what they refer to in memory, each declared one would cost a
-- look-up for each row, and `darkbloom-coordinator ledger verify` checks them all.
-- A hold is a promise, not a movement: it has no ledger entry until it is settled
-- (docs/developer/decisions/0001-holds-are-not-entries.md).

CREATE TABLE balances (
	account      INTEGER PRIMARY KEY REFERENCES accounts (ref),
	may_go_below INTEGER NOT NULL CHECK (may_go_below IN (0, 1)), -- sources of money only
	balance      INTEGER NOT NULL DEFAULT 0,
	withdrawable INTEGER NOT NULL DEFAULT 0,
	CHECK (may_go_below = 1 OR (balance >= 0 AND withdrawable BETWEEN 0 AND balance))
) STRICT;
-- only sqlite
INSERT INTO balances (account, may_go_below) SELECT ref, kind = 'source' FROM accounts;
-- only postgres
INSERT INTO balances (account, may_go_below) SELECT ref, CASE WHEN kind = 'source' THEN 1 ELSE 0 END FROM accounts;
-- both

CREATE TABLE holds (
	id         INTEGER PRIMARY KEY,
	request_id TEXT    NOT NULL UNIQUE,
	account    INTEGER NOT NULL,
	key_id     TEXT    NOT NULL DEFAULT '',
	amount     INTEGER NOT NULL CHECK (amount >= 0),
	price_in   INTEGER NOT NULL,
	price_out  INTEGER NOT NULL,
	-- (IN with three values would build a temporary table for every row.)
	state      TEXT    NOT NULL CHECK (state = 'open' OR state = 'settled' OR state = 'released'),
	reason     TEXT    NOT NULL DEFAULT '', -- why it was released
	entry      INTEGER, -- first ledger entry of the settlement; none when nothing was charged
	created_us INTEGER NOT NULL,
	ended_us   INTEGER,
	CHECK ((state = 'open') = (ended_us IS NULL)),
	CHECK (entry IS NULL OR state = 'settled')
) STRICT;
CREATE INDEX holds_open ON holds (id) WHERE state = 'open';

CREATE TABLE transfers (
	id         INTEGER PRIMARY KEY,
	key        TEXT    NOT NULL UNIQUE, -- a transfer happens once for each key
	reference  TEXT    NOT NULL DEFAULT '',
	created_us INTEGER NOT NULL
) STRICT;

-- Entries of one transaction (one settled hold or one transfer) have consecutive ids and sum to zero.
CREATE TABLE ledger (
	id                 INTEGER PRIMARY KEY,
	hold               INTEGER,
	transfer           INTEGER,
	account            INTEGER NOT NULL,
	type               TEXT    NOT NULL CHECK (type <> ''),
	amount             INTEGER NOT NULL CHECK (amount <> 0),
	balance_after      INTEGER NOT NULL,
	withdrawable_after INTEGER NOT NULL,
	created_us         INTEGER NOT NULL,
	CHECK ((hold IS NULL) <> (transfer IS NULL))
) STRICT;
-- only sqlite
CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
-- only postgres
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'the table % is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
	FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- both

CREATE TABLE usage (
	id                INTEGER PRIMARY KEY,
	account           INTEGER NOT NULL,
	key_id            TEXT    NOT NULL,
	provider_account  INTEGER, -- none = unlinked
	provider_id       TEXT    NOT NULL,
	provider_key      TEXT    NOT NULL,
	model             TEXT    NOT NULL,
	public_model      TEXT    NOT NULL,
	prompt_tokens     INTEGER NOT NULL CHECK (prompt_tokens >= 0),
	completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 0),
	reasoning_tokens  INTEGER NOT NULL CHECK (reasoning_tokens >= 0),
	price_in          INTEGER NOT NULL,
	price_out         INTEGER NOT NULL,
	cost              INTEGER NOT NULL CHECK (cost >= 0),
	fee               INTEGER NOT NULL CHECK (fee BETWEEN 0 AND cost),
	outcome           TEXT    NOT NULL,
	created_us        INTEGER NOT NULL
) STRICT;
CREATE INDEX usage_account ON usage (account, created_us);

CREATE TABLE usage_totals (
	id                INTEGER PRIMARY KEY CHECK (id = 1),
	requests          INTEGER NOT NULL,
	prompt_tokens     INTEGER NOT NULL,
	completion_tokens INTEGER NOT NULL
) STRICT;
INSERT INTO usage_totals VALUES (1, 0, 0, 0);

-- What a provider's account earned: kept for good, while usage rows are rolled up one day (billing 7.5).
CREATE TABLE earnings (
	id                INTEGER PRIMARY KEY,
	account           INTEGER NOT NULL,
	provider_id       TEXT    NOT NULL,
	provider_key      TEXT    NOT NULL,
	model             TEXT    NOT NULL,
	amount            INTEGER NOT NULL CHECK (amount > 0),
	prompt_tokens     INTEGER NOT NULL,
	completion_tokens INTEGER NOT NULL,
	created_us        INTEGER NOT NULL
) STRICT;

CREATE TABLE earnings_summary (
	account           INTEGER PRIMARY KEY,
	jobs              INTEGER NOT NULL,
	amount            INTEGER NOT NULL,
	prompt_tokens     INTEGER NOT NULL,
	completion_tokens INTEGER NOT NULL
) STRICT;
