ALTER TABLE checkpoints ADD COLUMN is_private boolean NOT NULL DEFAULT false;
UPDATE checkpoints c SET is_private = true WHERE EXISTS (SELECT FROM projection_subjects s
    WHERE (s.projection, s.generation) = (c.projection, c.generation));
DROP TABLE projection_subjects;
