-- Closed periods of the ledger and the log of who did what to money and keys: both are chains of hashes (store_books.h,
-- store_trail.h), so that nobody alters what is behind the last link unnoticed.

CREATE TABLE ledger_closes (
	id            INTEGER PRIMARY KEY, -- 1, 2, 3...
	first_entry   INTEGER NOT NULL,
	last_entry    INTEGER NOT NULL,
	entries       INTEGER NOT NULL,
	moved         INTEGER NOT NULL, -- sum of what was received
	usage_rows    INTEGER NOT NULL, -- of the requests that were charged in it
	entries_hash  TEXT    NOT NULL,
	usage_hash    TEXT    NOT NULL,
	previous_hash TEXT    NOT NULL, -- of the close before; 64 zeros before the first
	hash          TEXT    NOT NULL,
	closed_us     INTEGER NOT NULL
) STRICT;

CREATE TABLE audit_trail (
	id            INTEGER PRIMARY KEY, -- 1, 2, 3...
	at_us         INTEGER NOT NULL,
	actor         TEXT    NOT NULL,
	action        TEXT    NOT NULL,
	subject       TEXT    NOT NULL,
	details       TEXT    NOT NULL, -- JSON
	hash          TEXT    NOT NULL -- over this row and the hash of the one before
) STRICT;
CREATE INDEX audit_trail_subject ON audit_trail (subject, id);

-- only sqlite
CREATE TRIGGER ledger_closes_no_update BEFORE UPDATE ON ledger_closes BEGIN SELECT RAISE(ABORT, 'closes are append-only'); END;
CREATE TRIGGER ledger_closes_no_delete BEFORE DELETE ON ledger_closes BEGIN SELECT RAISE(ABORT, 'closes are append-only'); END;
CREATE TRIGGER audit_trail_no_update BEFORE UPDATE ON audit_trail BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_trail_no_delete BEFORE DELETE ON audit_trail BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
INSERT INTO accounts (id, kind, name, created_us) VALUES
	('stripe', 'source', 'money at Stripe', unixepoch() * 1000000),
	('rewards', 'source', 'base rewards', unixepoch() * 1000000);
-- only postgres
CREATE TRIGGER ledger_closes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_closes
	FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_trail_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_trail
	FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
INSERT INTO accounts (id, kind, name, created_us) VALUES
	('stripe', 'source', 'money at Stripe', (extract(epoch FROM now()) * 1000000)::BIGINT),
	('rewards', 'source', 'base rewards', (extract(epoch FROM now()) * 1000000)::BIGINT);
-- both
INSERT INTO balances (account, may_go_below) SELECT ref, 1 FROM accounts WHERE id IN ('stripe', 'rewards');
