"""The edge of the site: what happens to every request and answer, whatever handles it.

Read `edge.py` (the road of one request), then what it asks: `checks.py` (may it come in),
`addresses.py` (for whom does it count, and the one form of every name), `visitor.py` (whose
browser is it), `answers.py` (what a refusal looks like, and the headers of every answer).
`turns.py` says when it is one's turn;
`request_state.py` is what a handler may know of all this.
"""
