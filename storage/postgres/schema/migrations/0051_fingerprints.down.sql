ALTER TABLE devices DROP COLUMN fingerprint;
