-- What was decided stays decided: messages and queue keep their state, rooms their events.
DROP TRIGGER chat_audit_log_keep ON chat_audit_log;
DROP FUNCTION chat_audit_log_keep();
DROP FUNCTION chat_moderate(uuid, uuid, uuid, text, text, text, timestamptz, jsonb, jsonb);
