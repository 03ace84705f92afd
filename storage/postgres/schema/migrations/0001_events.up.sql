-- The log everything else is derived from, and what identifies this store.
--
-- The global order is (txid, position), read below pg_snapshot_xmin(pg_current_snapshot()):
-- a position alone is drawn before its transaction commits, so a later one may become
-- visible first and a reader that remembers positions would skip the earlier for ever.

CREATE TABLE store_meta (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    lineage uuid NOT NULL DEFAULT gen_random_uuid(),
    system_identifier text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO store_meta (system_identifier)
SELECT system_identifier::text FROM pg_control_system();

CREATE TABLE events (
    -- By bytes, whatever the database sorts by: names are read in ranges.
    stream_id text COLLATE "C" NOT NULL CHECK (octet_length(stream_id) BETWEEN 1 AND 255),
    version bigint NOT NULL CHECK (version >= 1),
    position bigint GENERATED ALWAYS AS IDENTITY,
    txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    event_version int NOT NULL DEFAULT 1,
    codec text NOT NULL DEFAULT 'json',
    event_data bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    tenant text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT events_pkey PRIMARY KEY (stream_id, version),
    CONSTRAINT events_event_id_key UNIQUE (event_id)
);

CREATE UNIQUE INDEX events_order ON events (txid, position);
CREATE INDEX events_type ON events (event_type, event_version);
CREATE INDEX events_recorded_at ON events (recorded_at);
CREATE INDEX events_correlation ON events ((metadata ->> 'correlation_id'));

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed; append a correction', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER events_are_immutable
    BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

REVOKE UPDATE, DELETE, TRUNCATE ON events FROM PUBLIC;
