-- Changes of addresses (AUTH-11). They go with the credentials of their account.

CREATE TABLE address_changes (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES credentials (user_id) ON DELETE CASCADE,
    -- The sign-in that asked; a change is made while it is alive.
    reference uuid NOT NULL,
    former text NOT NULL,
    email text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    made_at timestamptz
);
CREATE INDEX address_changes_user ON address_changes (user_id);
CREATE INDEX address_changes_asked_at ON address_changes (asked_at);
CREATE INDEX address_changes_former ON address_changes (former) WHERE made_at IS NOT NULL;

-- Whether a former address is kept for another account than this one, for a week.
CREATE FUNCTION is_address_kept(p_email text, p_user uuid) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT EXISTS (SELECT 1 FROM address_changes WHERE former = p_email
        AND made_at > clock_timestamp() - interval '7 days' AND user_id IS DISTINCT FROM p_user)
$$;

-- Behind the unique index: who waited there for a change to be made sees it.
CREATE FUNCTION users_email_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF is_address_kept(NEW.email, NEW.id) THEN
        RAISE EXCEPTION 'the address is kept for another account'
            USING ERRCODE = 'unique_violation', CONSTRAINT = 'users_email_key';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER users_email_kept AFTER INSERT OR UPDATE OF email ON users FOR EACH ROW
    EXECUTE FUNCTION users_email_kept();
