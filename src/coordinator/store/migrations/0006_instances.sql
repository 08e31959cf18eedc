-- Several coordinators on one database: who they are, whose turn it was, who granted a hold
-- (docs/developer/decisions/0020-coordinators-take-turns.md). A SQLite file has one coordinator: there all of this stays empty.

CREATE TABLE instances (
	id         INTEGER PRIMARY KEY,
	name       TEXT    NOT NULL, -- a coordinator that starts again has the same one; empty = it has none
	started_us INTEGER NOT NULL, -- these times are the database's
	seen_us    INTEGER NOT NULL,
	patience_us INTEGER NOT NULL, -- when it was not seen for so long, it has ended
	last_group INTEGER NOT NULL DEFAULT 0, -- the last group of operations it committed
	ended_us   INTEGER,
	lost       INTEGER NOT NULL DEFAULT 0 CHECK (lost IN (0, 1)) -- it ended because it was not seen for too long
) STRICT;
CREATE INDEX instances_living ON instances (id) WHERE ended_us IS NULL;

-- Whoever writes holds this row. `number` counts the turns: when it is not what a coordinator left there, others wrote since.
CREATE TABLE turn (
	id         INTEGER PRIMARY KEY CHECK (id = 1),
	number     INTEGER NOT NULL,
	last_hold  INTEGER NOT NULL,
	last_entry INTEGER NOT NULL
) STRICT;
INSERT INTO turn SELECT 1, 0, (SELECT coalesce(max(id), 0) FROM holds), (SELECT coalesce(max(id), 0) FROM ledger);

ALTER TABLE holds ADD COLUMN instance INTEGER NOT NULL DEFAULT 0; -- whose promise it is

-- What an instance may promise of an account's money without asking again. All leases of an account together are at most its
-- balance.
CREATE TABLE leases (
	account  INTEGER NOT NULL,
	instance INTEGER NOT NULL,
	amount   INTEGER NOT NULL CHECK (amount >= 0),
	PRIMARY KEY (account, instance)
) STRICT, WITHOUT ROWID;
-- only postgres
ALTER TABLE turn SET (fillfactor = 20);
ALTER TABLE instances SET (fillfactor = 50);
ALTER TABLE balances SET (fillfactor = 50);
ALTER TABLE leases SET (fillfactor = 50);
ALTER TABLE usage_totals SET (fillfactor = 20);
ALTER TABLE earnings_summary SET (fillfactor = 50);
ALTER TABLE key_spend SET (fillfactor = 50);
-- both
