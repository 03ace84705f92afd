"""The command line: `greenroom serve`, and what an operator does to a store by hand.

Read `parser.py` (every command with its options, and nothing else: `--help` imports only this),
`commands.py` (from words to an exit code), `answering.py` (how a command answers, and with which
code it ends), `opening.py` (the store of the settings, and the audit around a change). Then a file
a group of commands, such as `store.py`, `projections.py`, and `beside_log.py` (dead letters,
outbox, timers), or a folder: `running/` (the site, the worked examples), `reading/` (the log),
`people/`, `live/` (the site that runs) and `making/` (programs from templates). `__main__.py` lets
`python -m web.cli` do the same.
"""
