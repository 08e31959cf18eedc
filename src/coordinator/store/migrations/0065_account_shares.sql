-- What accounts get of queues (routing/share.h), as the operator set it while the coordinator ran: texts as in the configuration.

CREATE TABLE account_shares (
	account_id TEXT    PRIMARY KEY CHECK (account_id <> ''),
	share      TEXT    NOT NULL,
	updated_us INTEGER NOT NULL
) STRICT;
