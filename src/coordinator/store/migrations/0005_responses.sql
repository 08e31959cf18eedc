-- Answers that their callers asked to be kept (http-api 2.9 `store`). The text is sealed before it comes here.

CREATE TABLE responses (
	id         TEXT    PRIMARY KEY CHECK (id <> ''),
	account    INTEGER NOT NULL REFERENCES accounts (ref),
	previous   TEXT    NOT NULL DEFAULT '', -- the answer it goes on from; it may be gone
	created_us INTEGER NOT NULL,
	bytes      INTEGER NOT NULL, -- of sealed
	sealed     BLOB    NOT NULL
) STRICT;
CREATE INDEX responses_account ON responses (account, created_us, bytes);
CREATE INDEX responses_created ON responses (created_us);
