"""Sign-in by a provider: OAuth 2 and OpenID Connect (AUTH-6).

Read `words.py` (a provider as it is set, what it shows of a person), `judging.py` (what is asked of
it, and what its answers are worth; pure), `identities.py` (the port that keeps whose identity is
which account's), then `flow.py`: the actor of one state, and `renewing.py`: what keeps tokens good.
"""
