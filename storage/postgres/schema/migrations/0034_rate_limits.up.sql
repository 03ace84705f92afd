-- Tries are judged and counted in one statement (AUTH-40), as `actors/accounts/throttle.py` says.

-- `p_keys` in the order of their bytes; the other lists say of each what `Limit` says. Gives how
-- long the next try has to wait, zero for not at all, and how many more may be made at once. `p_now`
-- is another clock than the server's, for tests.
CREATE FUNCTION hit_limits(
    p_keys text[], p_maxima int[], p_periods interval[], p_steps interval[], p_shapes text[],
    p_kept int[], p_delay_first interval, p_delay_max interval, p_counts boolean,
    p_now timestamptz
) RETURNS TABLE (wait interval, remaining int)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    found attempts[];
    one attempts;
    tries timestamptz[];
    moment timestamptz;
    n int;
    free int;
    here interval;
BEGIN
    wait := interval '0';
    remaining := NULL;
    IF p_counts THEN
        -- The rows are there before they are judged, so that of two first tries one waits for the
        -- other; and they are locked in one order, so nobody waits in a circle.
        WITH locked AS (
            INSERT INTO attempts AS a (key, tried_at, expires_at)
            SELECT k, '{}', clock_timestamp() + interval '1 minute'
            FROM unnest(p_keys) WITH ORDINALITY AS u (k, i) ORDER BY u.i
            ON CONFLICT (key) DO UPDATE SET expires_at = a.expires_at
            RETURNING a.key, a.tried_at, a.expires_at
        )
        SELECT array_agg(ROW(l.key, l.tried_at, l.expires_at)::attempts ORDER BY u.i) INTO found
        FROM unnest(p_keys) WITH ORDINALITY AS u (k, i) JOIN locked l ON l.key = u.k;
    ELSE
        SELECT array_agg(ROW(u.k, coalesce(a.tried_at, '{}'), now())::attempts ORDER BY u.i)
        INTO found
        FROM unnest(p_keys) WITH ORDINALITY AS u (k, i) LEFT JOIN attempts a ON a.key = u.k;
    END IF;
    moment := coalesce(p_now, clock_timestamp());
    FOR i IN 1 .. cardinality(p_keys) LOOP
        one := found[i];
        here := interval '0';
        IF p_shapes[i] = 'bucket' THEN
            tries := ARRAY(SELECT at FROM unnest(one.tried_at) at
                WHERE at > moment AND at <= moment + p_steps[i] * p_maxima[i]);
            tries := ARRAY[coalesce(tries[1], moment)];
            here := tries[1] - p_steps[i] * (p_maxima[i] - 1) - moment;
            free := floor(extract(epoch FROM moment + p_steps[i] * p_maxima[i] - tries[1])
                / extract(epoch FROM p_steps[i]));
        ELSE
            tries := ARRAY(SELECT at FROM unnest(one.tried_at) at
                WHERE at > moment - p_periods[i] AND at <= moment ORDER BY at);
            n := cardinality(tries);
            tries := tries[greatest(1, n - p_kept[i] + 1) : n];
            n := cardinality(tries);
            free := p_maxima[i] - n;
            IF free <= 0 AND p_shapes[i] = 'window' THEN
                here := tries[n - p_maxima[i] + 1] + p_periods[i] - moment;
            ELSIF free <= 0 THEN
                here := tries[n]
                    + least(p_delay_max, p_delay_first * (1 << (n - p_maxima[i]))) - moment;
            END IF;
        END IF;
        wait := greatest(wait, here);
        remaining := least(remaining, greatest(0, free - 1));
        one.tried_at := CASE WHEN p_shapes[i] = 'bucket' THEN ARRAY[tries[1] + p_steps[i]]
            ELSE (tries || moment)[greatest(1, n + 2 - p_kept[i]) : n + 1] END;
        found[i] := one;
    END LOOP;
    IF p_counts AND wait = interval '0' THEN
        UPDATE attempts a SET tried_at = f.tried_at, expires_at = moment + p_periods[u.i]
        FROM unnest(p_keys) WITH ORDINALITY AS u (k, i)
            JOIN unnest(found) AS f ON f.key = u.k
        WHERE a.key = u.k;
    END IF;
    RETURN NEXT;
END
$$;
