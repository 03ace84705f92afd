CREATE OR REPLACE FUNCTION has_second_factor(p_user uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM totp_factors WHERE user_id = p_user)
$$;
DROP TABLE passkey_challenges;
DROP TABLE passkeys;
