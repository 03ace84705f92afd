"""`greenroom new` and `greenroom upgrade`: programs and parts of programs, from templates.

Read `words.py` (what is to be made), `naming.py` (which names are refused, and why), `filling.py`
(from a template to texts, and the lines that register a part), `recording.py` (what was made, kept
beside it, so that an upgrade knows), `origin.py` (where greenroom came from, and its wheel),
`writing.py` (all of it or nothing), `command.py` (what was typed). The templates are plain folders
in `web/cli/templates`, a manifest each.
"""
