DROP INDEX audit_log_failures_of;
DROP TRIGGER sign_ins_fixed ON sign_ins;
CREATE TRIGGER sign_ins_fixed BEFORE UPDATE ON sign_ins FOR EACH ROW
    WHEN ((OLD.id, OLD.user_id, OLD.session_id, OLD.browser, OLD.address, OLD.method)
        IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.session_id, NEW.browser, NEW.address, NEW.method))
    EXECUTE FUNCTION sign_ins_fixed();
ALTER TABLE sign_ins DROP COLUMN is_limited, DROP COLUMN device;
DROP TABLE login_allowances;
DROP TABLE logins;
DROP FUNCTION logins_fixed();
DROP TABLE devices;
