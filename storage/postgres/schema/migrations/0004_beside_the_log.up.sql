-- What stands beside the log and is written in the transaction of an append, or derived.

CREATE TABLE shards (
    id int PRIMARY KEY,
    owner text NOT NULL,
    epoch bigint NOT NULL CHECK (epoch >= 1),
    lease_until timestamptz NOT NULL
);

CREATE TABLE snapshots (
    stream_id text PRIMARY KEY,
    version bigint NOT NULL CHECK (version >= 1),
    schema text NOT NULL,
    state_data bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE idempotency (
    tenant text NOT NULL DEFAULT '',
    scope text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'done')),
    result bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, scope, key),
    CHECK ((state = 'done') = (result IS NOT NULL))
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    partition int NOT NULL,
    kind text NOT NULL CHECK (kind IN ('bus', 'command', 'mail', 'hook')),
    target text NOT NULL,
    key text NOT NULL,
    message_id uuid NOT NULL UNIQUE,
    headers jsonb NOT NULL DEFAULT '{}',
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz,
    attempts int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_error text,
    -- Given up: later rows of the key wait behind it (hold) or pass it (skip).
    is_dead boolean NOT NULL DEFAULT false
);
CREATE INDEX outbox_unsent ON outbox (partition, txid, id) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;

CREATE TABLE outbox_leases (
    partition int PRIMARY KEY,
    owner text NOT NULL,
    epoch bigint NOT NULL,
    lease_until timestamptz NOT NULL
);

CREATE TABLE inbox (
    consumer text NOT NULL,
    message_id uuid NOT NULL,
    handled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, message_id)
);
CREATE INDEX inbox_age ON inbox (handled_at);

CREATE TABLE timers (
    timer_id uuid PRIMARY KEY,
    address text NOT NULL,
    name text NOT NULL,
    token text NOT NULL,
    due_at timestamptz NOT NULL,
    payload bytea NOT NULL DEFAULT '',
    metadata jsonb NOT NULL DEFAULT '{}',
    claimed_by text,
    claimed_until timestamptz,
    attempts int NOT NULL DEFAULT 0,
    fired_at timestamptz,
    cancelled_at timestamptz,
    UNIQUE (address, name, token),
    CHECK (fired_at IS NULL OR cancelled_at IS NULL)
);
CREATE INDEX timers_due ON timers (due_at) WHERE fired_at IS NULL AND cancelled_at IS NULL;
CREATE INDEX timers_over ON timers ((coalesce(fired_at, cancelled_at)))
    WHERE fired_at IS NOT NULL OR cancelled_at IS NOT NULL;

CREATE TABLE checkpoints (
    projection text NOT NULL,
    generation int NOT NULL CHECK (generation >= 1),
    partition int NOT NULL DEFAULT 0,
    version int NOT NULL,
    txid xid8 NOT NULL DEFAULT '0',
    position bigint NOT NULL DEFAULT 0,
    lineage uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('building', 'live', 'halted', 'retired')),
    error text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, generation, partition)
);

-- Read models that need no table of their own: one collection for each generation.
CREATE TABLE documents (
    collection text NOT NULL,
    key text NOT NULL,
    document jsonb NOT NULL,
    txid xid8 NOT NULL,
    position bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (collection, key)
);

CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN
        ('message', 'effect', 'event', 'projection', 'bus', 'outbox', 'mail', 'saga')),
    source text NOT NULL,
    message_id text NOT NULL,
    stream_id text,
    event_id uuid,
    event_type text,
    event_version int,
    payload bytea,
    metadata jsonb NOT NULL DEFAULT '{}',
    error_message text NOT NULL,
    error_details text NOT NULL DEFAULT '',
    retry_count int NOT NULL DEFAULT 0,
    first_failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_retry_at timestamptz,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'processing', 'resolved', 'discarded')),
    claimed_at timestamptz,
    resolved_at timestamptz,
    resolved_by text,
    resolution_notes text,
    UNIQUE (kind, source, message_id)
);
CREATE INDEX dead_letters_status ON dead_letters (status, kind, id);
CREATE INDEX dead_letters_parked ON dead_letters (source, stream_id) WHERE status = 'pending';

CREATE TABLE dead_letter_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dead_letter_id bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL,
    from_status text NOT NULL,
    to_status text NOT NULL,
    notes text
);
