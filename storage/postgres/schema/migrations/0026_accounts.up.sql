-- Who may sign in, with what, and where they are signed in.

-- Apart from who people are: whoever reads users for a name never holds a secret in hand (SITE-36).
CREATE TABLE credentials (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    password_hash text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Of an account that was deleted a bare id stays, for what it wrote and for the audit (SITE-47).
ALTER TABLE users ADD COLUMN deleted_at timestamptz;

-- One sign-in of one browser. The token is in its cookie and nowhere else: here is its SHA-256, so
-- that a copy of this table opens nothing (SEC-12). `id` is what people and pages name it by.
CREATE TABLE sign_ins (
    id uuid PRIMARY KEY,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The browser session that began with it and ends with it.
    session_id text COLLATE "C" NOT NULL,
    browser text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT sign_ins_digest_key UNIQUE (digest),
    CONSTRAINT sign_ins_session_key UNIQUE (session_id)
);
CREATE INDEX sign_ins_user ON sign_ins (user_id);
CREATE INDEX sign_ins_seen_at ON sign_ins (seen_at);
CREATE INDEX sign_ins_created_at ON sign_ins (created_at);

-- Tries that count against who makes them (SITE-48). Not logged: after a crash of the server all
-- may try again, and no address lies in a backup.
CREATE UNLOGGED TABLE attempts (
    key text COLLATE "C" PRIMARY KEY,
    tried_at timestamptz[] NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX attempts_expires_at ON attempts (expires_at);
