-- Invite codes (billing 8.2).

CREATE TABLE invite_codes (
	code       TEXT    PRIMARY KEY,
	amount     INTEGER NOT NULL CHECK (amount > 0),
	max_uses   INTEGER NOT NULL CHECK (max_uses > 0),
	used_count INTEGER NOT NULL DEFAULT 0 CHECK (used_count <= max_uses),
	active     INTEGER NOT NULL DEFAULT 1,
	expires_us INTEGER NOT NULL DEFAULT 0, -- 0 = never
	created_us INTEGER NOT NULL
) STRICT;
CREATE TABLE invite_redemptions (
	code       TEXT    NOT NULL REFERENCES invite_codes (code),
	account    INTEGER NOT NULL REFERENCES accounts (ref),
	created_us INTEGER NOT NULL,
	PRIMARY KEY (code, account)
) STRICT, WITHOUT ROWID;
