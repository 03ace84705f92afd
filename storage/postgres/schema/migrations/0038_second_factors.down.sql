DROP FUNCTION has_second_factor(uuid);
DROP TABLE recovery_codes;
DROP TABLE totp_factors;
