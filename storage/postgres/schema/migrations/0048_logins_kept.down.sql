DROP INDEX logins_unstripped;
ALTER TABLE logins DROP COLUMN is_stripped;
