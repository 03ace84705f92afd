-- Passkeys (AUTH-7, SEC-100, SEC-103, SEC-104, SEC-107). They go with the credentials of their account.

CREATE TABLE passkeys (
    -- Of all accounts: a device may choose it, and one id is one key.
    credential_id bytea PRIMARY KEY CHECK (octet_length(credential_id) BETWEEN 1 AND 1023),
    -- What people and pages name it by.
    id uuid NOT NULL,
    user_id uuid NOT NULL REFERENCES credentials (user_id) ON DELETE CASCADE,
    public_key bytea NOT NULL,
    -- A counter of 32 bits without a sign.
    sign_count bigint NOT NULL,
    is_backup_eligible boolean NOT NULL,
    is_backed_up boolean NOT NULL,
    is_attested boolean NOT NULL,
    name text NOT NULL DEFAULT '',
    added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz,
    -- Since when it is known that its counter fell: there may be two of it.
    flagged_at timestamptz,
    CONSTRAINT passkeys_id_key UNIQUE (id),
    CONSTRAINT passkeys_backup CHECK (is_backup_eligible OR NOT is_backed_up)
);
CREATE INDEX passkeys_user ON passkeys (user_id);

-- What devices are to sign, by digest. Not logged: after a crash of the server one asks for another.
CREATE UNLOGGED TABLE passkey_challenges (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    ceremony text NOT NULL,
    bound bytea NOT NULL CHECK (octet_length(bound) = 32),
    user_id uuid,
    expires_at timestamptz NOT NULL
);
CREATE INDEX passkey_challenges_expires_at ON passkey_challenges (expires_at);

CREATE OR REPLACE FUNCTION has_second_factor(p_user uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM totp_factors WHERE user_id = p_user)
        OR EXISTS (SELECT 1 FROM passkeys WHERE user_id = p_user)
$$;
