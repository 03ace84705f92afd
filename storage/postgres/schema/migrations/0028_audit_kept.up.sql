-- What was done stays (SITE-72): a row of the audit goes by its age only, whoever asks. The purge
-- takes those of more than 365 days (SITE-79).
CREATE FUNCTION chat_audit_log_keep_young() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.created_at > clock_timestamp() - interval '365 days' THEN
        RAISE EXCEPTION 'chat_audit_log is append-only; a row goes after 365 days'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER chat_audit_log_keep_young BEFORE DELETE ON chat_audit_log
    FOR EACH ROW EXECUTE FUNCTION chat_audit_log_keep_young();
CREATE TRIGGER chat_audit_log_keep_all BEFORE TRUNCATE ON chat_audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION chat_audit_log_keep();
