-- Streams that are gone for ever (STORE-29). Their events may leave the log, and no others.

CREATE TABLE tombstones (
    stream_id text COLLATE "C" PRIMARY KEY
);

-- Those whose events are still in the table and hidden from readers: nearly always none.
CREATE TABLE removals (
    stream_id text COLLATE "C" PRIMARY KEY REFERENCES tombstones (stream_id),
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM removed r WHERE r.event_type = '$tombstoned'
            OR NOT EXISTS (SELECT FROM removals t WHERE t.stream_id = r.stream_id)
    ) THEN
        RAISE EXCEPTION 'rows of % are never changed; append a correction', TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER events_are_immutable ON events;
CREATE TRIGGER events_are_immutable
    BEFORE UPDATE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_stay
    AFTER DELETE ON events REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();

CREATE FUNCTION refuse_tag_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM removed r JOIN events e ON (e.txid, e.position) = (r.txid, r.position)
    ) THEN
        RAISE EXCEPTION 'rows of % are never changed; append a correction', TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER event_tags_are_immutable ON event_tags;
CREATE TRIGGER event_tags_are_immutable
    BEFORE UPDATE OR TRUNCATE ON event_tags
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER event_tags_stay
    AFTER DELETE ON event_tags REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_tag_removal();
