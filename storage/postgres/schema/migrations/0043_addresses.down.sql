DROP TRIGGER users_email_kept ON users;
DROP FUNCTION users_email_kept();
DROP FUNCTION is_address_kept(text, uuid);
DROP TABLE address_changes;
