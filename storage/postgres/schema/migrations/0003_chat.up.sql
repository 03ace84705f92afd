-- Chat as its readers see it: projections of the room events, written in their transaction.

CREATE TABLE chat_rooms (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid,
    -- The last numbers given away; the row's lock serialises the posts of a room.
    last_seq bigint NOT NULL DEFAULT 0,
    last_event bigint NOT NULL DEFAULT 0,
    CONSTRAINT chat_rooms_name_key UNIQUE (name)
);

CREATE TABLE chat_messages (
    id uuid PRIMARY KEY,
    room_id uuid NOT NULL REFERENCES chat_rooms (id),
    seq bigint NOT NULL CHECK (seq >= 1),
    -- No reference to users: a message outlives the account that wrote it.
    user_id uuid,
    author_session text,
    author_key text NOT NULL,
    body text NOT NULL,
    status text NOT NULL CHECK (status IN ('visible', 'pending', 'removed')),
    client_id text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT chat_messages_seq_key UNIQUE (room_id, seq),
    CONSTRAINT chat_messages_client_id_key UNIQUE (room_id, author_key, client_id),
    CONSTRAINT chat_messages_author CHECK (user_id IS NOT NULL OR author_session IS NOT NULL)
);
CREATE INDEX chat_messages_age ON chat_messages (created_at);

CREATE TABLE chat_room_memberships (
    room_id uuid NOT NULL REFERENCES chat_rooms (id) ON DELETE CASCADE,
    user_id uuid NOT NULL,
    role text NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'owner')),
    joined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room_id, user_id),
    CONSTRAINT chat_room_memberships_user_fkey
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX chat_room_memberships_user ON chat_room_memberships (user_id);

CREATE TABLE chat_moderation_queue (
    message_id uuid PRIMARY KEY REFERENCES chat_messages (id) ON DELETE CASCADE,
    reason text NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'removed')),
    reviewer_id uuid,
    reviewed_at timestamptz,
    queued_at timestamptz NOT NULL
);
CREATE INDEX chat_moderation_queue_open ON chat_moderation_queue (queued_at)
    WHERE status = 'pending';

-- Bare ids on purpose: audit rows survive the rooms and users they speak of.
CREATE TABLE chat_audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id uuid,
    actor_user_id uuid,
    action text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL
);
CREATE INDEX chat_audit_log_age ON chat_audit_log (created_at);

CREATE TABLE chat_rate_limits (
    room_id uuid NOT NULL REFERENCES chat_rooms (id) ON DELETE CASCADE,
    limit_key text NOT NULL,
    -- When the accepted posts of the last period were made, oldest first.
    accepted_at timestamptz[] NOT NULL,
    PRIMARY KEY (room_id, limit_key)
);

-- One post in one round trip and one transaction: repeat, limits, room event, message, queue,
-- limit rows, audit. The room's row lock comes first, so all posts of a room stand in line.
CREATE FUNCTION chat_post(
    p_room text, p_message_id uuid, p_event_id uuid, p_user_id uuid, p_session text,
    p_author_key text, p_body text, p_client_id text, p_status text, p_reason text,
    p_created_at timestamptz, p_metadata jsonb,
    p_limit_keys text[], p_limit_max int[], p_limit_period float8[]
) RETURNS TABLE (
    outcome text, n bigint, retry_after_s float8, id uuid, seq bigint, user_id uuid,
    author_session text, author_name text, body text, status text, client_id text,
    created_at timestamptz
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    room record;
    accepted timestamptz[];
    since timestamptz;
BEGIN
    SELECT r.id, r.last_seq + 1 AS seq, r.last_event + 1 AS event INTO room
        FROM chat_rooms r WHERE r.name = p_room FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown_room';
        RETURN NEXT;
        RETURN;
    END IF;

    RETURN QUERY
        SELECT 'repeated', NULL::bigint, NULL::float8, m.id, m.seq, m.user_id,
            m.author_session, u.display_name, m.body, m.status, m.client_id, m.created_at
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
    -- The text stays out of the event: events are for ever, messages are kept for days.
    INSERT INTO events (stream_id, version, event_id, event_type, event_data, metadata)
        VALUES ('room-' || room.id, room.event, p_event_id, 'MessagePosted',
            convert_to(jsonb_build_object(
                'message_id', p_message_id, 'seq', room.seq, 'user_id', p_user_id,
                'author_session', p_session, 'client_id', p_client_id, 'status', p_status,
                'reason', p_reason, 'created_at', p_created_at)::text, 'UTF8'),
            p_metadata);
    INSERT INTO chat_messages (id, room_id, seq, user_id, author_session, author_key, body,
            status, client_id, created_at)
        VALUES (p_message_id, room.id, room.seq, p_user_id, p_session, p_author_key, p_body,
            p_status, p_client_id, p_created_at);
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
            (SELECT u.display_name FROM users u WHERE u.id = p_user_id), p_body, p_status,
            p_client_id, p_created_at;
END
$$;
