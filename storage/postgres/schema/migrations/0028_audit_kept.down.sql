-- The rows stay; they could be deleted again.
DROP TRIGGER chat_audit_log_keep_all ON chat_audit_log;
DROP TRIGGER chat_audit_log_keep_young ON chat_audit_log;
DROP FUNCTION chat_audit_log_keep_young();
