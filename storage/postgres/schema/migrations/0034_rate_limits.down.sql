DROP FUNCTION hit_limits(
    text[], int[], interval[], interval[], text[], int[], interval, interval, boolean,
    timestamptz
);
