"""Ways to sign in beside a password, and what disavows a change of them."""
