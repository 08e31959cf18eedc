-- Who: accounts, API keys, provider tokens (billing 7.1), prices (billing 7.2).
-- Times are microseconds since 1970 UTC, money is micro-dollars, `ref` is an account's short name inside this database.

CREATE TABLE accounts (
	ref         INTEGER PRIMARY KEY,
	id          TEXT    NOT NULL UNIQUE,
	kind        TEXT    NOT NULL CHECK (kind IN ('user', 'platform', 'source')),
	name        TEXT    NOT NULL DEFAULT '',
	role        TEXT    NOT NULL DEFAULT '' CHECK (role IN ('', 'service')),
	fee_percent INTEGER CHECK (fee_percent BETWEEN 0 AND 100),
	is_owner    INTEGER NOT NULL DEFAULT 0 CHECK (is_owner IN (0, 1)),
	created_us  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX accounts_owner ON accounts (is_owner) WHERE is_owner = 1;

-- only sqlite
INSERT INTO accounts (id, kind, name, created_us) VALUES
	('platform', 'platform', 'platform fees', unixepoch() * 1000000),
	('grants', 'source', 'credit given by the operator', unixepoch() * 1000000);
-- only postgres
INSERT INTO accounts (id, kind, name, created_us) VALUES
	('platform', 'platform', 'platform fees', (extract(epoch FROM now()) * 1000000)::BIGINT),
	('grants', 'source', 'credit given by the operator', (extract(epoch FROM now()) * 1000000)::BIGINT);
-- both

CREATE TABLE api_keys (
	hash       TEXT    PRIMARY KEY, -- SHA-256 of the whole key, hex
	id         TEXT    NOT NULL UNIQUE,
	account    INTEGER NOT NULL REFERENCES accounts (ref),
	label      TEXT    NOT NULL,
	name       TEXT    NOT NULL DEFAULT '',
	disabled   INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
	expires_us INTEGER NOT NULL DEFAULT 0, -- 0 = never
	created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_account ON api_keys (account);

CREATE TABLE provider_tokens (
	hash       TEXT    PRIMARY KEY,
	account    INTEGER NOT NULL REFERENCES accounts (ref),
	label      TEXT    NOT NULL DEFAULT '',
	active     INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
	created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX provider_tokens_account ON provider_tokens (account);

CREATE TABLE prices (
	account    INTEGER NOT NULL REFERENCES accounts (ref), -- the platform's, or a provider's own
	model      TEXT    NOT NULL,
	input      INTEGER NOT NULL CHECK (input > 0), -- micro-dollars per million tokens
	output     INTEGER NOT NULL CHECK (output > 0),
	updated_us INTEGER NOT NULL,
	PRIMARY KEY (account, model)
) STRICT, WITHOUT ROWID;
