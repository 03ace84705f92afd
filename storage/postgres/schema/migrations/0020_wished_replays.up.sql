-- The letters that somebody asked to have replayed: a runner looks for them every second, and among
-- all that are parked there may be many.
CREATE INDEX dead_letters_wished ON dead_letters (source)
    WHERE next_retry_at IS NOT NULL AND status IN ('pending', 'processing');
