ALTER TABLE checkpoints DROP COLUMN revision;
DROP INDEX dead_letters_parked;
CREATE INDEX dead_letters_parked ON dead_letters (source, stream_id) WHERE status = 'pending';
ALTER TABLE dead_letters DROP COLUMN stream_version;
