DROP FUNCTION chat_post(text, uuid, uuid, uuid, text, text, jsonb, text, text, text, timestamptz,
    jsonb, text[], int[], float8[], int);

CREATE FUNCTION chat_post(
    p_room text, p_message_id uuid, p_event_id uuid, p_user_id uuid, p_session text,
    p_author_key text, p_event jsonb, p_client_id text, p_status text, p_reason text,
    p_created_at timestamptz, p_metadata jsonb,
    p_limit_keys text[], p_limit_max int[], p_limit_period float8[]
) RETURNS TABLE (
    outcome text, n bigint, retry_after_s float8, id uuid, seq bigint, user_id uuid,
    author_session text, author_name text, body text, event_id uuid, sealed jsonb, status text,
    client_id text, created_at timestamptz
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    room record;
    accepted timestamptz[];
    since timestamptz;
BEGIN
    -- Before anything that gives the transaction its number, as waiting for a locked row does:
    -- of two posts the later has the higher number, and so the higher place in the order.
    PERFORM pg_advisory_xact_lock(7462, hashtext(p_room));
    SELECT r.id, r.last_seq + 1 AS seq, r.last_event + 1 AS event INTO room
        FROM chat_rooms r WHERE r.name = p_room FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown_room';
        RETURN NEXT;
        RETURN;
    END IF;

    RETURN QUERY
        SELECT 'repeated', NULL::bigint, NULL::float8, m.id, m.seq, m.user_id,
            m.author_session, u.display_name, m.body, m.event_id, m.sealed, m.status,
            m.client_id, m.created_at
        FROM chat_messages m LEFT JOIN users u ON u.id = m.user_id
        WHERE m.room_id = room.id AND m.author_key = p_author_key AND m.client_id = p_client_id;
    IF FOUND THEN
        RETURN;
    END IF;

    FOR i IN 1 .. cardinality(p_limit_keys) LOOP
        since := p_created_at - make_interval(secs => p_limit_period[i]);
        SELECT array_agg(t ORDER BY t) INTO accepted
            FROM chat_rate_limits l, unnest(l.accepted_at) t
            WHERE l.room_id = room.id AND l.limit_key = p_limit_keys[i]
                AND t > since AND t <= p_created_at;
        IF cardinality(accepted) >= p_limit_max[i] THEN
            outcome := 'too_many';
            retry_after_s := greatest(retry_after_s, extract(epoch FROM
                accepted[cardinality(accepted) - p_limit_max[i] + 1] - since));
        END IF;
    END LOOP;
    IF outcome = 'too_many' THEN
        RETURN NEXT;
        RETURN;
    END IF;

    UPDATE chat_rooms r SET last_seq = room.seq, last_event = room.event WHERE r.id = room.id;
    -- The text is sealed in it, with keys of its day and its author: it ends with either.
    INSERT INTO events (stream_id, version, event_id, event_type, codec, event_data, metadata)
        VALUES ('room-' || room.id, room.event, p_event_id, 'MessagePosted', 'json+private',
            convert_to((p_event || jsonb_build_object('seq', room.seq))::text, 'UTF8'),
            p_metadata);
    INSERT INTO chat_messages (id, room_id, seq, user_id, author_session, author_key, event_id,
            sealed, status, client_id, created_at)
        VALUES (p_message_id, room.id, room.seq, p_user_id, p_session, p_author_key, p_event_id,
            p_event -> '$private', p_status, p_client_id, p_created_at);
    IF p_status = 'pending' THEN
        INSERT INTO chat_moderation_queue (message_id, reason, queued_at)
            VALUES (p_message_id, coalesce(p_reason, 'auto'), p_created_at);
    END IF;
    FOR i IN 1 .. cardinality(p_limit_keys) LOOP
        INSERT INTO chat_rate_limits AS l (room_id, limit_key, accepted_at)
            VALUES (room.id, p_limit_keys[i], ARRAY[p_created_at])
            ON CONFLICT (room_id, limit_key) DO UPDATE SET accepted_at = (
                SELECT array_agg(t ORDER BY t) FROM unnest(l.accepted_at || p_created_at) t
                WHERE t > p_created_at - make_interval(secs => p_limit_period[i]));
    END LOOP;
    INSERT INTO chat_audit_log (room_id, actor_user_id, action, metadata, created_at)
        VALUES (room.id, p_user_id, 'chat.message.post', jsonb_build_object(
            'room_id', room.id, 'message_id', p_message_id, 'status', p_status,
            'reason', p_reason,
            'timestamp_ms', floor(extract(epoch FROM p_created_at) * 1000)::bigint),
            p_created_at);
    RETURN QUERY
        SELECT 'posted', room.event, NULL::float8, p_message_id, room.seq, p_user_id, p_session,
            (SELECT u.display_name FROM users u WHERE u.id = p_user_id), NULL::text, p_event_id,
            p_event -> '$private', p_status, p_client_id, p_created_at;
END
$$;

DROP INDEX chat_messages_waiting;
