-- A tenant's streams stand among the others as `@tenant/name`, which is no stream's own name
-- (CORE-30, STORE-55). So the key tells them apart as it is, and a program of before, beside this
-- one, goes on with the streams of no tenant and meets those of tenants as streams that it has
-- never heard of. Only their names are longer: no row is looked at, each has the older limit too.
ALTER TABLE events ADD CONSTRAINT events_stream_id_length
    CHECK (octet_length(stream_id) BETWEEN 1 AND 321) NOT VALID;
ALTER TABLE events DROP CONSTRAINT events_stream_id_check;
