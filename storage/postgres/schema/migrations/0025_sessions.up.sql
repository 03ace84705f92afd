-- Browser sessions that are over: every process closes what they have open (SEC-44).
CREATE TABLE session_ends (
    session_id text COLLATE "C" PRIMARY KEY CHECK (octet_length(session_id) BETWEEN 1 AND 255),
    how text NOT NULL CHECK (how IN ('ended', 'banned')),
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX session_ends_ended_at ON session_ends (ended_at);

-- Tickets for one socket each, by the SHA-256 of what the client has (SEC-42). Not logged: after a
-- crash of the server its clients ask for another, and nothing of it lies in a backup.
CREATE UNLOGGED TABLE socket_tickets (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    session_id text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX socket_tickets_expires_at ON socket_tickets (expires_at);
