-- Keys of the subjects whose private fields can be forgotten (STORE-44). A row without a key is a
-- subject that was forgotten: it stays, so that no key is made for it in silence.

CREATE TABLE subject_keys (
    subject text COLLATE "C" PRIMARY KEY,
    -- Tells the keys of a subject apart: what the first sealed must not be tried with the second.
    number int NOT NULL CHECK (number >= 0),
    master text,
    wrapped bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The count of `subject_forgets` with which it was forgotten last.
    forgotten bigint,
    CHECK ((wrapped IS NULL) = (master IS NULL)),
    CHECK (wrapped IS NOT NULL OR forgotten IS NOT NULL)
);
CREATE INDEX subject_keys_forgotten ON subject_keys (forgotten) WHERE forgotten IS NOT NULL;
CREATE INDEX subject_keys_master ON subject_keys (master) WHERE master IS NOT NULL;

-- Counted up by each forgetting. Whoever commits what he made of private fields locks the row and
-- compares: of the two one comes first, and the other sees it.
CREATE TABLE subject_forgets (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    count bigint NOT NULL DEFAULT 0
);
INSERT INTO subject_forgets DEFAULT VALUES;

-- Whether the generation was made of private fields, and whether one of their subjects was
-- forgotten since: it is built anew then, and its documents are removed with the swap.
ALTER TABLE checkpoints ADD COLUMN is_private boolean NOT NULL DEFAULT false;
ALTER TABLE checkpoints ADD COLUMN is_outdated boolean NOT NULL DEFAULT false;
