-- How people log in: passwords, identities of other issuers, sessions, invitations (console 2.2). Secrets are here as hashes only.

-- The e-mail address is the name to log in with. Nobody has verified it: it proves nothing.
CREATE TABLE passwords (
	account    INTEGER PRIMARY KEY REFERENCES accounts (ref),
	email      TEXT    NOT NULL UNIQUE CHECK (email <> ''), -- in lower case
	hash       TEXT    NOT NULL, -- Argon2id, encoded
	changed_us INTEGER NOT NULL
) STRICT;

CREATE TABLE identities (
	issuer     TEXT    NOT NULL,
	subject    TEXT    NOT NULL,
	account    INTEGER NOT NULL REFERENCES accounts (ref),
	email      TEXT    NOT NULL DEFAULT '', -- verified by the issuer, or empty
	created_us INTEGER NOT NULL,
	PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX identities_account ON identities (account);

CREATE TABLE sessions (
	hash       TEXT    PRIMARY KEY, -- SHA-256 of the cookie's value, hex
	id         TEXT    NOT NULL UNIQUE,
	account    INTEGER NOT NULL REFERENCES accounts (ref),
	method     TEXT    NOT NULL,
	agent      TEXT    NOT NULL DEFAULT '',
	address    TEXT    NOT NULL DEFAULT '',
	created_us INTEGER NOT NULL,
	seen_us    INTEGER NOT NULL,
	auth_us    INTEGER NOT NULL, -- when the person last proved who they are
	idle_us    INTEGER NOT NULL, -- it ends this long after it was last seen
	expires_us INTEGER NOT NULL  -- and then at the latest
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_account ON sessions (account);
CREATE INDEX sessions_expires ON sessions (expires_us);

CREATE TABLE invitations (
	hash       TEXT    PRIMARY KEY, -- SHA-256 of the code, hex
	made_by    INTEGER NOT NULL REFERENCES accounts (ref),
	used_by    INTEGER REFERENCES accounts (ref),
	created_us INTEGER NOT NULL,
	expires_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
