"""Risk: how likely it is that a sign-in is not its owner's, and what is asked for then.

Read `words.py`; `rules.py` has each weight and border, `assessing.py` the score, `deciding.py` what
follows from it. `places.py` reads the operator's table of addresses,
`breached.py` their list of mailboxes that leaked; `port.py` is what is kept of
sign-ins that were assessed. All pure but the port: a store loads the history of an account, hands
it to the judge that came with the sign-in, and does what that says, in the sign-in's transaction.
"""
