-- Identities at providers (AUTH-6, SEC-91, SEC-93, SEC-96). They go with the credentials of their account.

CREATE TABLE provider_identities (
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id uuid NOT NULL REFERENCES credentials (user_id) ON DELETE CASCADE,
    -- As it is set; an account has one of a provider.
    provider text NOT NULL,
    -- What the provider gave to be asked with, sealed with the key of its user.
    sealed bytea NOT NULL,
    linked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz,
    PRIMARY KEY (issuer, subject),
    CONSTRAINT provider_identities_user_key UNIQUE (user_id, provider)
);

-- States that somebody came back with, by digest, until nobody can any more.
CREATE TABLE used_states (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    expires_at timestamptz NOT NULL
);
CREATE INDEX used_states_expires_at ON used_states (expires_at);
