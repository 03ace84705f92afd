ALTER TABLE credentials DROP COLUMN guarded_until;
DROP TABLE recoveries;
