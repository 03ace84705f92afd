"""Ways to sign in beside a password: identities at providers, and passkeys."""
