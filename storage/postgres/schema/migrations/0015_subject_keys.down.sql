ALTER TABLE checkpoints DROP COLUMN is_outdated;
ALTER TABLE checkpoints DROP COLUMN is_private;
DROP TABLE subject_forgets;
DROP TABLE subject_keys;
