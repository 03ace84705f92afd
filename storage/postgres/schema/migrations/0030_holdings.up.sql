-- What an account has done, for who takes it away. Not of the demo user: that is no account.
CREATE INDEX chat_audit_log_actor ON chat_audit_log (actor_user_id, id)
    WHERE actor_user_id IS NOT NULL AND actor_user_id <> '00000000-0000-7000-8000-00000000d3b0';
CREATE INDEX audit_log_accounts ON audit_log (resource, id) WHERE event_type = 'account';
