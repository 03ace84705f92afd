-- Whose private fields a generation of a projection was made of: only those are built anew when a
-- subject is forgotten.

CREATE TABLE projection_subjects (
    subject text COLLATE "C" NOT NULL,
    projection text NOT NULL,
    generation int NOT NULL,
    PRIMARY KEY (subject, projection, generation)
);
CREATE INDEX projection_subjects_generation ON projection_subjects (projection, generation);

-- Of those of before it is not known: they are built anew once.
UPDATE checkpoints SET is_outdated = true, revision = revision + 1,
    state = CASE state WHEN 'building' THEN 'retired' ELSE state END
WHERE is_private;
ALTER TABLE checkpoints DROP COLUMN is_private;
