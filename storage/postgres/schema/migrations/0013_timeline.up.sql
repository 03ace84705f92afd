-- Which history of the server this store was written in (STORE-26). A recovery to an earlier moment
-- and the promotion of a replica begin a new one.

ALTER TABLE store_meta ADD COLUMN timeline bigint;

UPDATE store_meta
SET timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint;
