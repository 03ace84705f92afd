-- What events are about beside their streams, and where those of a tag stand in the order: what a
-- condition of an append looks at. Events without tags have no row there.

ALTER TABLE events ADD COLUMN tags text[];

CREATE TABLE event_tags (
    tag text COLLATE "C" NOT NULL,
    txid xid8 NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT event_tags_pkey PRIMARY KEY (tag, txid, position)
);

CREATE TRIGGER event_tags_are_immutable
    BEFORE UPDATE OR DELETE OR TRUNCATE ON event_tags
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

REVOKE UPDATE, DELETE, TRUNCATE ON event_tags FROM PUBLIC;
