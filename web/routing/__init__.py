"""What the routes of every feature share.

Read `services.py` (what routes are handed), `errors.py` (what they raise, and the answer to each),
`commands.py` (how a page's command is read, refused and waited for), `quota.py` (how often),
`paths.py` (every path, once), `outward.py` (what another host is asked).
"""
