DROP INDEX audit_log_accounts;
DROP INDEX chat_audit_log_actor;
