DROP TABLE used_disavowals;
ALTER TABLE credentials DROP COLUMN doubted_since;
