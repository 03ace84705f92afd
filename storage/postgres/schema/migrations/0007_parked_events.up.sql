-- Parked events are kept and replayed in the order of their streams, in the transactions of
-- their projection.

-- Where a parked event stands in its stream; null when nothing waits behind the letter.
ALTER TABLE dead_letters ADD COLUMN stream_version bigint;
-- Keyed by the event's id, which stays when the order is renumbered. Of two letters of one
-- event, made before and after a renumbering, the first is it.
UPDATE dead_letters d SET message_id = event_id::text,
    stream_version = (metadata ->> 'stream_version')::bigint
WHERE kind = 'projection' AND event_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM dead_letters o WHERE o.kind = d.kind AND o.source = d.source
        AND o.event_id = d.event_id AND o.id < d.id);
DROP INDEX dead_letters_parked;
CREATE INDEX dead_letters_parked ON dead_letters (source, stream_id, stream_version)
    WHERE stream_version IS NOT NULL AND status IN ('pending', 'processing');

-- How many commits there were: a replay changes documents and leaves the cursor where it is.
ALTER TABLE checkpoints ADD COLUMN revision bigint NOT NULL DEFAULT 0;
