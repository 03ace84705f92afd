-- With it goes which names are given to no stream again: refused unless it is wished. What was hidden
-- is not seen again: it is removed here.
DROP TRIGGER event_tags_stay ON event_tags;
DROP TRIGGER event_tags_are_immutable ON event_tags;
DROP TRIGGER events_stay ON events;
DROP TRIGGER events_are_immutable ON events;
DELETE FROM event_tags t USING events e, removals r
WHERE (t.txid, t.position) = (e.txid, e.position) AND e.stream_id = r.stream_id;
DELETE FROM events e USING removals r
WHERE e.stream_id = r.stream_id AND e.event_type <> '$tombstoned';
CREATE TRIGGER event_tags_are_immutable
    BEFORE UPDATE OR DELETE OR TRUNCATE ON event_tags
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_are_immutable
    BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP FUNCTION refuse_tag_removal();
DROP FUNCTION refuse_removal();
DROP TABLE removals;
DROP TABLE tombstones;
