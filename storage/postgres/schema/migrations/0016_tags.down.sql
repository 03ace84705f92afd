-- Tags that are stored would be lost, and with them what appends depend on.
DO $$ BEGIN
    IF EXISTS (SELECT FROM event_tags) THEN
        RAISE EXCEPTION 'stored events have tags' USING ERRCODE = 'restrict_violation';
    END IF;
END $$;
DROP TABLE event_tags;
ALTER TABLE events DROP COLUMN tags;
