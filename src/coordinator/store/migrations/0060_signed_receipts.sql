-- Receipts are stored signed: a row for each row of usage, made behind the settlement (docs/developer/decisions/0061-receipts-are-signed-behind.md).

-- What a provider signs of a blind request besides what usage has: empty and 0 for others.
ALTER TABLE usage ADD COLUMN consumer_key TEXT NOT NULL DEFAULT '';
ALTER TABLE usage ADD COLUMN reported_prompt INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN reported_reasoning INTEGER NOT NULL DEFAULT 0;

-- Every key that ever signed: what it signed stays good when another one follows.
CREATE TABLE receipt_keys (
	ref        INTEGER PRIMARY KEY,
	kid        TEXT    NOT NULL UNIQUE,
	public_key TEXT    NOT NULL,
	created_us INTEGER NOT NULL
) STRICT;

-- The rest of a receipt is its row of usage.
CREATE TABLE receipts (
	id        INTEGER PRIMARY KEY, -- usage.id
	key       INTEGER NOT NULL,    -- receipt_keys.ref
	version   INTEGER NOT NULL,
	signature TEXT    NOT NULL
) STRICT;

-- What is not signed yet: written with the settlements of a group, one row for many of them; gone when they are signed.
CREATE TABLE receipts_due (
	id       INTEGER PRIMARY KEY,
	instance INTEGER NOT NULL, -- whose work it is; anybody's when that coordinator is gone
	rows     TEXT    NOT NULL  -- usage.id, a JSON array
) STRICT;
-- only sqlite
INSERT INTO receipts_due (instance, rows) SELECT 0, json_group_array(id) FROM usage GROUP BY id / 128;
-- only postgres
INSERT INTO receipts_due (instance, rows) SELECT 0, json_agg(id)::TEXT FROM usage GROUP BY id / 128;
-- both
