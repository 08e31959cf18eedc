-- Questions between coordinators are numbered, so that an answer to an older one is not taken for one to the newest; and what keys
-- with a spend limit have on hold is known to all of them (docs/developer/decisions/0050-leases-on-balances.md).

ALTER TABLE leases DROP COLUMN wanted;
ALTER TABLE leases ADD COLUMN answered INTEGER NOT NULL DEFAULT 0; -- the newest question answered since it took something

CREATE TABLE key_holds (
	limit_group TEXT    NOT NULL,
	instance    INTEGER NOT NULL,
	amount      INTEGER NOT NULL CHECK (amount >= 0),
	PRIMARY KEY (limit_group, instance)
) STRICT, WITHOUT ROWID;
-- only postgres
ALTER TABLE key_holds SET (fillfactor = 50);
-- both
