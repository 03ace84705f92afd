-- What became of a mail once a server was asked to take it, and whose address takes none. Digests
-- stand for addresses: nobody can be written to with what is kept here.
CREATE TABLE mails (
    message_id uuid PRIMARY KEY,
    recipient bytea NOT NULL CHECK (octet_length(recipient) = 32),
    template text NOT NULL,
    state text NOT NULL CHECK (state IN
        ('sending', 'sent', 'deferred', 'refused', 'suppressed', 'expired', 'unknown')),
    reason text NOT NULL DEFAULT '',
    -- Copies that have left without an answer.
    copies_left int NOT NULL DEFAULT 0 CHECK (copies_left >= 0),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX mails_changed ON mails (changed_at);

CREATE TABLE mail_suppressed (
    address_hash bytea PRIMARY KEY CHECK (octet_length(address_hash) = 32),
    reason text NOT NULL,
    until timestamptz NOT NULL,
    -- When a mail went there all the same, because its reader asked for it.
    excepted_at timestamptz
);
CREATE INDEX mail_suppressed_until ON mail_suppressed (until);
