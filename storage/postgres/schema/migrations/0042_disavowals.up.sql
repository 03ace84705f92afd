-- "This was not me" (AUTH-16).

-- Since when what was added to an account is doubted. Until its owner comes in by a link to the
-- address it opens by nothing else.
ALTER TABLE credentials ADD COLUMN doubted_since timestamptz;

-- What was disavowed with, by digest, until it is over anyway.
CREATE TABLE used_disavowals (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    expires_at timestamptz NOT NULL
);
CREATE INDEX used_disavowals_expires_at ON used_disavowals (expires_at);
