-- Devices of accounts, and sign-ins with their risk (AUTH-24, AUTH-25, AUTH-30). They go with the
-- credentials of their account.

CREATE TABLE devices (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES credentials (user_id) ON DELETE CASCADE,
    -- SHA-256 of what tells the device.
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    browser text NOT NULL,
    name text NOT NULL DEFAULT '',
    trust text NOT NULL CHECK (trust IN ('unknown', 'recognized', 'familiar', 'trusted')),
    logins int NOT NULL DEFAULT 1,
    -- The passkey that was used from it last.
    passkey uuid REFERENCES passkeys (id) ON DELETE SET NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT devices_digest_key UNIQUE (user_id, digest)
);
CREATE INDEX devices_user ON devices (user_id, seen_at);
CREATE INDEX devices_passkey ON devices (passkey) WHERE passkey IS NOT NULL;

CREATE TABLE logins (
    -- Of the sign-in that was made, or would have been.
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES credentials (user_id) ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome text NOT NULL,
    method text NOT NULL,
    browser text NOT NULL,
    -- A keyed digest: no address.
    network bytea,
    country text NOT NULL DEFAULT '',
    latitude float8,
    longitude float8,
    score float8,
    level text NOT NULL DEFAULT '',
    factors text NOT NULL DEFAULT '',
    unobserved text
);
CREATE INDEX logins_user ON logins (user_id, at);

-- The risk of a sign-in never changes (AUTH-21).
CREATE FUNCTION logins_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the risk of a sign-in never changes'
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'logins_fixed';
END
$$;
CREATE TRIGGER logins_fixed BEFORE UPDATE ON logins FOR EACH ROW
    WHEN ((OLD.id, OLD.user_id, OLD.outcome, OLD.method, OLD.score, OLD.level, OLD.factors)
        IS DISTINCT FROM
        (NEW.id, NEW.user_id, NEW.outcome, NEW.method, NEW.score, NEW.level, NEW.factors))
    EXECUTE FUNCTION logins_fixed();

-- Attempts that the owner of an account allowed by a mail; `bound` tells from where.
CREATE TABLE login_allowances (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    user_id uuid NOT NULL REFERENCES credentials (user_id) ON DELETE CASCADE,
    bound bytea NOT NULL CHECK (octet_length(bound) = 32),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX login_allowances_user ON login_allowances (user_id);
CREATE INDEX login_allowances_expires_at ON login_allowances (expires_at);

ALTER TABLE sign_ins
    ADD COLUMN device uuid,
    -- For a day it does nothing sensitive, unless a second factor is proven in it.
    ADD COLUMN is_limited boolean NOT NULL DEFAULT false;
CREATE INDEX sign_ins_device ON sign_ins (device) WHERE device IS NOT NULL;

DROP TRIGGER sign_ins_fixed ON sign_ins;
CREATE TRIGGER sign_ins_fixed BEFORE UPDATE ON sign_ins FOR EACH ROW
    WHEN ((OLD.id, OLD.user_id, OLD.session_id, OLD.browser, OLD.address, OLD.method, OLD.device,
            OLD.is_limited)
        IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.session_id, NEW.browser, NEW.address, NEW.method,
            NEW.device, NEW.is_limited))
    EXECUTE FUNCTION sign_ins_fixed();

-- How often somebody failed at an account of late.
CREATE INDEX audit_log_failures_of ON audit_log (resource, at)
    WHERE NOT success AND event_type = 'account';
