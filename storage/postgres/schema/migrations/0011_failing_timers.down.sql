DROP INDEX timers_over;
DROP INDEX timers_claimed;
DROP INDEX timers_due;
-- Before there was giving up, they were tried for ever.
ALTER TABLE timers DROP COLUMN given_up_at;
ALTER TABLE timers DROP COLUMN last_error;
ALTER TABLE timers DROP COLUMN failures;
ALTER TABLE timers ADD CONSTRAINT timers_check CHECK (fired_at IS NULL OR cancelled_at IS NULL);
CREATE INDEX timers_due ON timers (due_at) WHERE fired_at IS NULL AND cancelled_at IS NULL;
CREATE INDEX timers_over ON timers ((coalesce(fired_at, cancelled_at)))
    WHERE fired_at IS NOT NULL OR cancelled_at IS NOT NULL;
