ALTER TABLE idempotency DROP COLUMN token;
