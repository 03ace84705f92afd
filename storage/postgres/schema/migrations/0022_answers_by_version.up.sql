-- Kept answers of appends name stream and versions since fenced keys came (0012); before that they
-- named the cursor. Such a one could not be read any more, and its request, sent again within the
-- day that it is kept for, was refused as if the key were another's (STORE-55).
UPDATE idempotency i SET result = convert_to(jsonb_build_object(
        'stream_id', e.stream_id, 'first_version', (a.answer -> 'first_version')::bigint,
        'version', e.version)::text, 'UTF8')
FROM (
    SELECT ctid, CASE
        -- A program's own answer may be any bytes: only what looks like ours is read as JSON.
        WHEN encode(result, 'escape') ~ ('^\{"version":\d{1,18},"first_version":\d{1,18},'
            '"cursor":\[\d{1,18},\d{1,18}\],"replayed":(true|false)\}$')
        THEN encode(result, 'escape')::jsonb END AS answer
    FROM idempotency WHERE state = 'done' AND octet_length(result) < 256
) a
JOIN events e ON e.txid = (a.answer -> 'cursor' ->> 0)::xid8
    AND e.position = (a.answer -> 'cursor' ->> 1)::bigint
    AND e.version = (a.answer ->> 'version')::bigint
WHERE i.ctid = a.ctid;
