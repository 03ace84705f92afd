-- The event bus: its log by day, groups with their members and offsets, and what is put aside.

CREATE TABLE bus_topics (
    name text PRIMARY KEY,
    partitions int NOT NULL CHECK (partitions BETWEEN 1 AND 256),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE SEQUENCE bus_positions;

-- A day is removed as a whole: nothing is left to be vacuumed.
CREATE TABLE bus_records (
    topic text NOT NULL,
    partition int NOT NULL,
    txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    position bigint NOT NULL DEFAULT nextval('bus_positions'),
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    key text NOT NULL,
    value bytea NOT NULL,
    headers jsonb NOT NULL
) PARTITION BY RANGE (published_at);
CREATE INDEX bus_records_order ON bus_records (topic, partition, txid, position);

CREATE TABLE bus_groups (
    name text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Nothing is kept for a group that was silent for long.
    is_counted boolean NOT NULL DEFAULT true
);

CREATE TABLE bus_members (
    group_name text NOT NULL REFERENCES bus_groups ON DELETE CASCADE,
    member text NOT NULL,
    topics text[] NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (group_name, member)
) WITH (fillfactor = 50);

CREATE TABLE bus_offsets (
    group_name text NOT NULL REFERENCES bus_groups ON DELETE CASCADE,
    topic text NOT NULL,
    partition int NOT NULL,
    txid xid8 NOT NULL DEFAULT '0',
    position bigint NOT NULL DEFAULT 0,
    owner text NOT NULL DEFAULT '',
    epoch bigint NOT NULL DEFAULT 0,
    handled_at timestamptz,
    PRIMARY KEY (group_name, topic, partition)
) WITH (fillfactor = 50);

CREATE TABLE bus_parked (
    group_name text NOT NULL,
    topic text NOT NULL,
    event_id uuid NOT NULL,
    key text NOT NULL,
    tries int NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (group_name, topic, event_id)
);
CREATE INDEX bus_parked_keys ON bus_parked (group_name, topic, key);
CREATE INDEX bus_parked_age ON bus_parked (due_at);

-- Days are made and removed by whoever may write records, and need the owner of the table.
CREATE FUNCTION bus_add_days(days int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('greenroom bus days'));
    FOR ahead IN 0..least(days, 30) LOOP
        name := 'bus_records_' || to_char(today + ahead, 'YYYYMMDD');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF bus_records FOR VALUES FROM (%L) TO (%L)',
                name,
                (today + ahead)::timestamp AT TIME ZONE 'UTC',
                (today + ahead + 1)::timestamp AT TIME ZONE 'UTC'
            );
        END IF;
    END LOOP;
END $$;

-- Never the present day, nor one to come.
CREATE FUNCTION bus_drop_day(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    name text := 'bus_records_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF day >= (clock_timestamp() AT TIME ZONE 'UTC')::date OR to_regclass(name) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    RETURN true;
END $$;
