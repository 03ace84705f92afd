-- Who did what, and where long-running processes stand.

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    event_type text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    actor text,
    action text NOT NULL,
    resource text,
    success boolean NOT NULL,
    error text,
    -- Never a whole address.
    ip_masked text,
    user_agent text,
    session_id text,
    request_id text,
    metadata jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_failures ON audit_log (at) WHERE NOT success;

CREATE TABLE sagas (
    saga_id text PRIMARY KEY,
    kind text NOT NULL,
    status text NOT NULL,
    step text,
    attempt int NOT NULL DEFAULT 0,
    deadline timestamptz,
    correlation_id text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text
);
CREATE INDEX sagas_status ON sagas (kind, status, updated_at);
