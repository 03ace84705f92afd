"""The command line: `greenroom serve`.

Read `commands.py` (what can be called); `__main__.py` lets `python -m web.cli` do the same.
"""
