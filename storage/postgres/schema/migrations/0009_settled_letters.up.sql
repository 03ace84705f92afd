-- A settled dead letter stays as it was: the same failure later is a new letter.
ALTER TABLE dead_letters DROP CONSTRAINT dead_letters_kind_source_message_id_key;
CREATE UNIQUE INDEX dead_letters_open ON dead_letters (kind, source, message_id)
    WHERE status IN ('pending', 'processing');
CREATE INDEX dead_letters_final ON dead_letters (id) WHERE status IN ('resolved', 'discarded');
CREATE INDEX dead_letter_audit_at ON dead_letter_audit (at);

-- How many there are, so that nobody counts them. Whoever adds one locks the row: of two who
-- take the last place, the second finds it taken.
CREATE TABLE dead_letter_room (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    taken bigint NOT NULL
);
INSERT INTO dead_letter_room (taken) SELECT count(*) FROM dead_letters;

CREATE FUNCTION count_dead_letters() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change bigint;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE dead_letter_room SET taken = 0;
        RETURN NULL;
    END IF;
    change := (SELECT count(*) FROM changed) * CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    IF change <> 0 THEN
        UPDATE dead_letter_room SET taken = taken + change;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER dead_letters_added AFTER INSERT ON dead_letters
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters();
CREATE TRIGGER dead_letters_removed AFTER DELETE ON dead_letters
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters();
CREATE TRIGGER dead_letters_emptied AFTER TRUNCATE ON dead_letters
    FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters();
