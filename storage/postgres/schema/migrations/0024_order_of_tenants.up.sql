-- no transaction
-- A tenant's events in their order, however many others there are. Not of every event that notes a
-- tenant: programs of before did so in streams of none.
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_of_tenant ON events (tenant, txid, position)
    WHERE starts_with(stream_id, '@');
