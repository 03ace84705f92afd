"""Ways to sign in whose secrets are at somebody else: identities at providers."""
