DROP TABLE used_states;
DROP TABLE provider_identities;
