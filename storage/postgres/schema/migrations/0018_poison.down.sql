ALTER TABLE checkpoints DROP COLUMN poison, DROP COLUMN left_out;
