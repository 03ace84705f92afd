ALTER TABLE checkpoints DROP COLUMN is_filled;
