-- Machines of accounts, remembered while they are not connected (http-api 4.3).

CREATE TABLE machines (
	key           TEXT    PRIMARY KEY CHECK (key <> ''), -- serial, else the name of the signing key
	account       INTEGER NOT NULL REFERENCES accounts (ref),
	provider      TEXT    NOT NULL, -- id of the last connection
	registered_us INTEGER NOT NULL,
	seen_us       INTEGER NOT NULL,
	facts         TEXT    NOT NULL  -- JSON, as the account sees it
) STRICT;
CREATE INDEX machines_account ON machines (account, seen_us);
CREATE INDEX machines_provider ON machines (provider);
