-- What a sign-in proves, where it began, and which of its facts never change (SEC-17, SEC-20, SEC-21).

ALTER TABLE credentials ADD COLUMN epoch int NOT NULL DEFAULT 0;
ALTER TABLE sign_ins
    -- That of its account; with another one it is over.
    ADD COLUMN epoch int NOT NULL DEFAULT 0,
    -- Never a whole address.
    ADD COLUMN address text NOT NULL DEFAULT '',
    ADD COLUMN method text NOT NULL DEFAULT 'password',
    ADD COLUMN level smallint NOT NULL DEFAULT 1 CHECK (level BETWEEN 1 AND 4),
    ADD COLUMN proven_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN name text NOT NULL DEFAULT '';
UPDATE sign_ins SET proven_at = created_at;

CREATE FUNCTION sign_ins_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'whose a sign-in is, where it began and how never changes'
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'sign_ins_fixed';
END
$$;
CREATE TRIGGER sign_ins_fixed BEFORE UPDATE ON sign_ins FOR EACH ROW
    WHEN ((OLD.id, OLD.user_id, OLD.session_id, OLD.browser, OLD.address, OLD.method)
        IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.session_id, NEW.browser, NEW.address, NEW.method))
    EXECUTE FUNCTION sign_ins_fixed();

-- What was done with an account stays as it was written; rows go by their age only (SEC-134). A row
-- of a command is completed when the command ends.
CREATE FUNCTION audit_log_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only; a row goes after 365 days'
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_log_keep BEFORE UPDATE ON audit_log FOR EACH ROW
    WHEN (OLD.event_type = 'account') EXECUTE FUNCTION audit_log_keep();
CREATE TRIGGER audit_log_keep_young BEFORE DELETE ON audit_log FOR EACH ROW
    WHEN (OLD.event_type = 'account' AND OLD.at > clock_timestamp() - interval '365 days')
    EXECUTE FUNCTION audit_log_keep();
CREATE INDEX audit_log_actor ON audit_log (actor, id);
CREATE INDEX audit_log_action ON audit_log (action, id);
