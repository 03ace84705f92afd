DROP INDEX provider_identities_renew_at;
ALTER TABLE provider_identities DROP COLUMN renewals_begun, DROP COLUMN renew_at;
UPDATE provider_identities SET sealed = '{}' WHERE sealed IS NULL;
ALTER TABLE provider_identities ALTER COLUMN sealed SET NOT NULL;
DROP TABLE provider_sign_ins;
