-- From where somebody signed in is kept for 30 days (SEC-134); when, for as long as it is compared with.

ALTER TABLE logins ADD COLUMN is_stripped boolean NOT NULL DEFAULT false;
CREATE INDEX logins_unstripped ON logins (at) WHERE NOT is_stripped;
