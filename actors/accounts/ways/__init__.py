"""Ways to sign in beside a password, each with an actor of its own.

`links.py` are the words and rules of a link that signs in, and the port that keeps it;
`link_flow.py` is the actor that issues and redeems one. `left.py` says whether there is a way left
when one goes.
"""
