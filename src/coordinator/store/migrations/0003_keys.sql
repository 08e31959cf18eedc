-- What an API key may do and spend (billing 3, http-api 4.1), what was spent by day, how full the rate limits' buckets are
-- (http-api 4.4), and the account that the operator's key stands for.

-- only sqlite
INSERT INTO accounts (id, kind, name, created_us) VALUES ('admin', 'platform', 'the operator', unixepoch() * 1000000);
-- only postgres
INSERT INTO accounts (id, kind, name, created_us)
	VALUES ('admin', 'platform', 'the operator', (extract(epoch FROM now()) * 1000000)::BIGINT);
-- both
INSERT INTO balances (account, may_go_below) SELECT ref, 0 FROM accounts WHERE id = 'admin';

ALTER TABLE api_keys ADD COLUMN limit_group TEXT NOT NULL DEFAULT ''; -- what is spent is counted for this, whichever key of it
ALTER TABLE api_keys ADD COLUMN scopes INTEGER NOT NULL DEFAULT 1 CHECK (scopes BETWEEN 0 AND 255); -- 1 = inference
ALTER TABLE api_keys ADD COLUMN spend_limit INTEGER CHECK (spend_limit >= 0); -- micro-dollars for each window; none = no limit
ALTER TABLE api_keys ADD COLUMN limit_reset INTEGER NOT NULL DEFAULT 0 CHECK (limit_reset BETWEEN 0 AND 3); -- never, day, week, month
ALTER TABLE api_keys ADD COLUMN rpm INTEGER NOT NULL DEFAULT 0 CHECK (rpm >= 0);    -- 0 = only what the account may
ALTER TABLE api_keys ADD COLUMN itpm INTEGER NOT NULL DEFAULT 0 CHECK (itpm >= 0);
ALTER TABLE api_keys ADD COLUMN otpm INTEGER NOT NULL DEFAULT 0 CHECK (otpm >= 0);
ALTER TABLE api_keys ADD COLUMN allowed_models TEXT NOT NULL DEFAULT ''; -- one in each line; empty = all
ALTER TABLE api_keys ADD COLUMN self_route_only INTEGER NOT NULL DEFAULT 0 CHECK (self_route_only IN (0, 1));
ALTER TABLE api_keys ADD COLUMN last_used_us INTEGER NOT NULL DEFAULT 0; -- 0 = never
UPDATE api_keys SET limit_group = id;

-- Settled spend of a group of keys on one day (days since 1970 UTC). Any window of the calendar is a sum of days.
CREATE TABLE key_spend (
	limit_group TEXT    NOT NULL,
	day         INTEGER NOT NULL,
	spent       INTEGER NOT NULL CHECK (spent >= 0),
	PRIMARY KEY (limit_group, day)
) STRICT, WITHOUT ROWID;
INSERT INTO key_spend (limit_group, day, spent)
	SELECT key_id, created_us / 86400000000, sum(cost) FROM usage WHERE key_id <> '' GROUP BY 1, 2;

-- What was missing from the token buckets at at_us; full ones have no row.
CREATE TABLE rate_levels (
	owner     TEXT    PRIMARY KEY,
	at_us     INTEGER NOT NULL,
	requests  REAL    NOT NULL,
	input     REAL    NOT NULL,
	output    REAL    NOT NULL,
	financial REAL    NOT NULL
) STRICT, WITHOUT ROWID;
