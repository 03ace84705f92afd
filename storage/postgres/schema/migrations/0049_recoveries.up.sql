-- Recoveries of accounts (AUTH-10): the row is the timer. They go with the credentials.

CREATE TABLE recoveries (
    -- One of an account at a time.
    user_id uuid PRIMARY KEY REFERENCES credentials (user_id) ON DELETE CASCADE,
    id uuid NOT NULL,
    -- Of the account when it began: whoever reads another one by now has nothing to recover.
    email text NOT NULL,
    started_at timestamptz NOT NULL,
    ready_at timestamptz NOT NULL,
    -- When it was told that the day is over; before that nothing can be done.
    told_at timestamptz,
    CONSTRAINT recoveries_id_key UNIQUE (id)
);
CREATE INDEX recoveries_ready_at ON recoveries (ready_at);

-- Until when nothing sensitive can be done.
ALTER TABLE credentials ADD COLUMN guarded_until timestamptz;
