-- Usage of whole months whose rows were kept long enough (billing 7.5). Days since 1970 UTC.

CREATE TABLE usage_months (
	account           INTEGER NOT NULL,
	month             INTEGER NOT NULL, -- its first day
	until_day         INTEGER NOT NULL, -- the first day after it
	model             TEXT    NOT NULL,
	key_id            TEXT    NOT NULL,
	requests          INTEGER NOT NULL,
	charged           INTEGER NOT NULL, -- requests that cost something
	prompt_tokens     INTEGER NOT NULL,
	cached_tokens     INTEGER NOT NULL,
	completion_tokens INTEGER NOT NULL,
	reasoning_tokens  INTEGER NOT NULL,
	cost              INTEGER NOT NULL,
	fee               INTEGER NOT NULL,
	PRIMARY KEY (account, month, model, key_id)
) STRICT, WITHOUT ROWID;
