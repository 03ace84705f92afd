-- A delivery that fails backs off its own timer; after ten it is given up, beside the others.
ALTER TABLE timers ADD COLUMN failures int NOT NULL DEFAULT 0;
ALTER TABLE timers ADD COLUMN last_error text;
ALTER TABLE timers ADD COLUMN given_up_at timestamptz;
ALTER TABLE timers DROP CONSTRAINT timers_check;
ALTER TABLE timers ADD CONSTRAINT timers_check
    CHECK (num_nonnulls(fired_at, cancelled_at, given_up_at) <= 1);
DROP INDEX timers_due;
DROP INDEX timers_over;
CREATE INDEX timers_due ON timers (due_at)
    WHERE fired_at IS NULL AND cancelled_at IS NULL AND given_up_at IS NULL;
CREATE INDEX timers_claimed ON timers (claimed_until)
    WHERE fired_at IS NULL AND cancelled_at IS NULL AND given_up_at IS NULL
        AND claimed_until IS NOT NULL;
CREATE INDEX timers_over ON timers ((coalesce(fired_at, cancelled_at, given_up_at)));
