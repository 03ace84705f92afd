-- Which event halts a projection, at the part that met it, and which one somebody left out there.
ALTER TABLE checkpoints ADD COLUMN poison uuid;
ALTER TABLE checkpoints ADD COLUMN left_out uuid;
