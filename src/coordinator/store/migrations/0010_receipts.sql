-- The usage row is the receipt: what was signed, by which key, and at which price cached tokens were counted (billing 2, 4).
ALTER TABLE prices ADD COLUMN cached INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN price_cached INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN service INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN job_id TEXT NOT NULL DEFAULT '';
ALTER TABLE usage ADD COLUMN reported_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN response_hash TEXT NOT NULL DEFAULT '';
ALTER TABLE usage ADD COLUMN se_signature TEXT NOT NULL DEFAULT '';
ALTER TABLE usage ADD COLUMN se_public_key TEXT NOT NULL DEFAULT '';
