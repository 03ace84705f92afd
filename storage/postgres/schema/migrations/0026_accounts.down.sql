DROP TABLE attempts;
DROP TABLE sign_ins;
ALTER TABLE users DROP COLUMN deleted_at;
DROP TABLE credentials;
