DROP INDEX events_recorded_at;
CREATE INDEX events_recorded_at ON events (recorded_at);
DROP INDEX events_correlation;
CREATE INDEX events_correlation ON events ((metadata ->> 'correlation_id'));
