-- Base rewards (billing 8.3). Times in microseconds; an epoch is named by its start.

-- Stretches of time in which a machine was fit to be rewarded.
CREATE TABLE reward_stretches (
	id           INTEGER PRIMARY KEY,
	device       TEXT    NOT NULL CHECK (device <> ''), -- attested serial, else the signing key
	provider_key TEXT    NOT NULL CHECK (provider_key <> ''),
	account      INTEGER NOT NULL REFERENCES accounts (ref),
	model        TEXT    NOT NULL, -- of the hardware
	memory_gb    INTEGER NOT NULL, -- as the machine says
	from_us      INTEGER NOT NULL,
	seen_us      INTEGER NOT NULL, -- last
	ended_us     INTEGER,          -- when it was not fit any more, or gone
	UNIQUE (device, from_us)
) STRICT;
CREATE INDEX reward_stretches_seen ON reward_stretches (seen_us);

CREATE TABLE provider_floor_draws (
	id           INTEGER PRIMARY KEY,
	epoch_us     INTEGER NOT NULL,
	device       TEXT    NOT NULL,
	provider_key TEXT    NOT NULL,
	account      INTEGER NOT NULL REFERENCES accounts (ref),
	amount       INTEGER NOT NULL CHECK (amount >= 0),
	floor        INTEGER NOT NULL CHECK (floor >= amount),
	earned       INTEGER NOT NULL,
	uptime_us    INTEGER NOT NULL,
	memory_gb    INTEGER NOT NULL,
	created_us   INTEGER NOT NULL,
	UNIQUE (epoch_us, device), -- one machine is paid once, whatever keys it makes for itself
	UNIQUE (epoch_us, provider_key)
) STRICT;
CREATE INDEX provider_floor_draws_account ON provider_floor_draws (account, epoch_us);

CREATE TABLE reward_epochs (
	epoch_us   INTEGER PRIMARY KEY,
	pool       INTEGER NOT NULL,
	machines   INTEGER NOT NULL,
	skipped    INTEGER NOT NULL, -- machines of an unknown model, which have no draw, and are looked at again after the next start
	settled_us INTEGER NOT NULL
) STRICT;
