-- Streams of tenants stay; that names have become too long is told here.
ALTER TABLE events ADD CONSTRAINT events_stream_id_check
    CHECK (octet_length(stream_id) BETWEEN 1 AND 255);
ALTER TABLE events DROP CONSTRAINT events_stream_id_length;
