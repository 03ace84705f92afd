DROP FUNCTION chat_post;
DROP TABLE chat_rate_limits;
DROP TABLE chat_audit_log;
DROP TABLE chat_moderation_queue;
DROP TABLE chat_room_memberships;
DROP TABLE chat_messages;
DROP TABLE chat_rooms;
