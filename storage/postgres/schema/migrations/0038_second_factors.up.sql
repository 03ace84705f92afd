-- Second factors (AUTH-9). They go with the credentials of their account.

CREATE TABLE totp_factors (
    user_id uuid PRIMARY KEY REFERENCES credentials (user_id) ON DELETE CASCADE,
    -- The secret, sealed with the key of its user.
    sealed bytea NOT NULL,
    -- The step of time whose code was used last; it only grows.
    last_step bigint NOT NULL,
    added_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE recovery_codes (
    user_id uuid NOT NULL REFERENCES credentials (user_id) ON DELETE CASCADE,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    PRIMARY KEY (user_id, digest)
);

-- Whether a sign-in of an account asks for one.
CREATE FUNCTION has_second_factor(p_user uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM totp_factors WHERE user_id = p_user)
$$;
