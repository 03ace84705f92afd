-- What was tried and is not sent: only it can hold up others of its key.
CREATE INDEX outbox_tried ON outbox (partition, key, txid, id)
    WHERE sent_at IS NULL AND (is_dead OR next_attempt_at IS NOT NULL);
