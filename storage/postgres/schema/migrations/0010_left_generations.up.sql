-- False when a generation stood still though there was something to read: no runner fills it,
-- and who waits for it is told so at once.
ALTER TABLE checkpoints ADD COLUMN is_filled boolean NOT NULL DEFAULT true;
