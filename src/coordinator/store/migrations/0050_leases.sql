-- Another coordinator asks that what is not in use of a lease is given back
-- (docs/developer/decisions/0050-leases-on-balances.md). A row of amount 0 says that its coordinator has the account in memory.

ALTER TABLE leases ADD COLUMN wanted INTEGER NOT NULL DEFAULT 0; -- 0 nobody asked, 1 asked, 2 answered, and nothing taken since
