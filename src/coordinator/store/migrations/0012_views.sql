-- What views and statements read without walking through the whole ledger.

-- What accounts earned in each hour (since 1970 UTC): of requests, and of rewards that no request made.
CREATE TABLE earnings_hours (
	account           INTEGER NOT NULL,
	hour              INTEGER NOT NULL,
	jobs              INTEGER NOT NULL,
	amount            INTEGER NOT NULL,
	rewards           INTEGER NOT NULL DEFAULT 0,
	prompt_tokens     INTEGER NOT NULL,
	completion_tokens INTEGER NOT NULL,
	PRIMARY KEY (hour, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX earnings_hours_account ON earnings_hours (account, hour);
INSERT INTO earnings_hours (account, hour, jobs, amount, prompt_tokens, completion_tokens)
	SELECT account, created_us / 3600000000, count(*), sum(amount), sum(prompt_tokens), sum(completion_tokens)
	FROM earnings GROUP BY account, created_us / 3600000000;
CREATE INDEX earnings_account ON earnings (account, id);
-- Settlements are not in it: they would pay for it with every request.
CREATE INDEX ledger_transfers ON ledger (account, id) WHERE transfer IS NOT NULL;
