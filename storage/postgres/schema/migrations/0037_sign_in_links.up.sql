-- Links that sign in (AUTH-1, SEC-82, SEC-83), and which addresses were shown to be read.

-- What opens a link is in its mail; here are digests. A mailbox has one link at most.
CREATE TABLE sign_in_links (
    mailbox bytea PRIMARY KEY CHECK (octet_length(mailbox) = 32),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    email text NOT NULL,
    -- Of the browser that asked, and of the code that is shown there; without either it opens anywhere.
    flow bytea CHECK (octet_length(flow) = 32),
    code bytea CHECK (octet_length(code) = 32),
    wrong_codes int NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    CONSTRAINT sign_in_links_digest_key UNIQUE (digest)
);
CREATE INDEX sign_in_links_expires_at ON sign_in_links (expires_at);

ALTER TABLE users ADD COLUMN email_verified_at timestamptz;
