-- What a device showed of itself last, where a service collects that (AUTH-24): thirteen keyed
-- digests in order, zeros for a part that was not shown.
ALTER TABLE devices ADD COLUMN fingerprint bytea CHECK (octet_length(fingerprint) = 416);
