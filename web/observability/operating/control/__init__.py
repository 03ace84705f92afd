"""The control socket: one line of JSON asks a running site, lines of JSON answer.

Read `words.py`: what is on a line; `place.py`: where the socket lies, and whose it is; then
`serving.py`, the site's end, and `asking.py`, that of a command. What can be asked is in `live.py`.
"""
