DROP INDEX audit_log_action;
DROP INDEX audit_log_actor;
DROP TRIGGER audit_log_keep_young ON audit_log;
DROP TRIGGER audit_log_keep ON audit_log;
DROP FUNCTION audit_log_keep();
DROP TRIGGER sign_ins_fixed ON sign_ins;
DROP FUNCTION sign_ins_fixed();
ALTER TABLE sign_ins
    DROP COLUMN name, DROP COLUMN proven_at, DROP COLUMN level, DROP COLUMN method,
    DROP COLUMN address, DROP COLUMN epoch;
ALTER TABLE credentials DROP COLUMN epoch;
