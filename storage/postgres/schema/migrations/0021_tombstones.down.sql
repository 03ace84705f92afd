-- Without this step hidden events would be seen again.
DO $$
BEGIN
    IF EXISTS (SELECT FROM removals) THEN
        RAISE EXCEPTION 'events of tombstoned streams are still there; remove them first';
    END IF;
END
$$;
DROP TRIGGER event_tags_stay ON event_tags;
DROP TRIGGER event_tags_are_immutable ON event_tags;
CREATE TRIGGER event_tags_are_immutable
    BEFORE UPDATE OR DELETE OR TRUNCATE ON event_tags
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP FUNCTION refuse_tag_removal();
DROP TRIGGER events_stay ON events;
DROP TRIGGER events_are_immutable ON events;
CREATE TRIGGER events_are_immutable
    BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP FUNCTION refuse_removal();
DROP TABLE removals;
DROP TABLE tombstones;
