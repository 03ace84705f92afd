-- Which sign-ins end with a session at a provider (AUTH-13), and when tokens are renewed (AUTH-6).

CREATE TABLE provider_sign_ins (
    sign_in uuid PRIMARY KEY REFERENCES sign_ins (id) ON DELETE CASCADE,
    provider text NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    -- What the provider calls its session; empty where it names none.
    session text NOT NULL
);
CREATE INDEX provider_sign_ins_session ON provider_sign_ins (issuer, session);
CREATE INDEX provider_sign_ins_subject ON provider_sign_ins (issuer, subject);

-- Without: the provider took back what it gave.
ALTER TABLE provider_identities ALTER COLUMN sealed DROP NOT NULL;
ALTER TABLE provider_identities
    -- Null: there is nothing to renew, or nothing to renew it with.
    ADD COLUMN renew_at timestamptz,
    -- In a row; each waits longer than the one before.
    ADD COLUMN renewals_begun int NOT NULL DEFAULT 0;
CREATE INDEX provider_identities_renew_at ON provider_identities (renew_at) WHERE renew_at IS NOT NULL;
