-- Only events that have a correlation, and times by ranges of the log: events come in their order.

DROP INDEX events_correlation;
CREATE INDEX events_correlation ON events ((metadata ->> 'correlation_id'))
    WHERE metadata ->> 'correlation_id' IS NOT NULL;
DROP INDEX events_recorded_at;
CREATE INDEX events_recorded_at ON events USING brin (recorded_at);
