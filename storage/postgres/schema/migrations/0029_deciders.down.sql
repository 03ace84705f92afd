-- Decisions are judged as before: by the role of the request, and by the session of now.
CREATE OR REPLACE FUNCTION chat_moderate(
    p_message_id uuid, p_event_id uuid, p_reviewer uuid, p_session text, p_decision text,
    p_reason text, p_at timestamptz, p_event jsonb, p_metadata jsonb
) RETURNS TABLE (
    outcome text, room_name text, room_id uuid, n bigint, reason text, id uuid, seq bigint,
    user_id uuid, author_session text, author_name text, body text, event_id uuid, sealed jsonb,
    status text, client_id text, created_at timestamptz
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    room record;
    message record;
    told text;
    new_status text := CASE p_decision WHEN 'approve' THEN 'visible' ELSE 'removed' END;
BEGIN
    SELECT r.name INTO room_name
        FROM chat_messages m JOIN chat_rooms r ON r.id = m.room_id WHERE m.id = p_message_id;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN NEXT;
        RETURN;
    END IF;
    -- Before anything that gives the transaction its number, see `chat_post`.
    PERFORM pg_advisory_xact_lock(7462, hashtext(room_name));
    SELECT r.id, r.name, r.last_event + 1 AS event INTO room
        FROM chat_rooms r WHERE r.name = room_name FOR UPDATE;
    SELECT m.* INTO message FROM chat_messages m WHERE m.id = p_message_id FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN NEXT;
        RETURN;
    END IF;
    IF (message.author_session IS NULL AND message.user_id = p_reviewer)
            OR message.author_session = p_session THEN
        outcome := 'own';
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE chat_moderation_queue q
        SET status = CASE p_decision WHEN 'approve' THEN 'approved' ELSE 'removed' END,
            reviewer_id = p_reviewer, reviewed_at = p_at,
            reason = CASE p_reason WHEN '' THEN q.reason ELSE p_reason END
        WHERE q.message_id = p_message_id AND q.status = 'pending'
        RETURNING q.reason INTO told;
    IF NOT FOUND THEN
        outcome := 'not_waiting';
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE chat_messages m SET status = new_status WHERE m.id = p_message_id;
    UPDATE chat_rooms r SET last_event = room.event WHERE r.id = room.id;
    INSERT INTO events (stream_id, version, event_id, event_type, event_data, metadata)
        VALUES ('room-' || room.id, room.event, p_event_id, 'MessageModerated',
            convert_to(p_event::text, 'UTF8'), p_metadata);
    INSERT INTO chat_audit_log (room_id, actor_user_id, action, metadata, created_at)
        VALUES (room.id, p_reviewer, 'chat.message.moderate', jsonb_build_object(
            'room_id', room.id, 'message_id', p_message_id, 'decision', p_decision,
            'status', new_status, 'reason', told,
            'timestamp_ms', floor(extract(epoch FROM p_at) * 1000)::bigint), p_at);
    RETURN QUERY
        SELECT 'decided', room.name, room.id, room.event, told, message.id, message.seq,
            message.user_id, message.author_session,
            (SELECT u.display_name FROM users u WHERE u.id = message.user_id), message.body,
            message.event_id, message.sealed, new_status, message.client_id, message.created_at;
END
$$;
DROP FUNCTION session_members(text);
DROP INDEX session_ends_members;
ALTER TABLE session_ends DROP COLUMN members;
