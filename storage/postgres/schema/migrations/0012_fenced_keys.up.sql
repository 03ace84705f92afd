-- Who holds an idempotency key: made anew for each holder, so a former one's words have no effect.

ALTER TABLE idempotency ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid();
