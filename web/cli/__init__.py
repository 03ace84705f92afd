"""The command line: `greenroom serve`, and the fetcher of the browser runtime.

Read `commands.py` (what can be called), then `browser_runtime.py`. Nothing is imported here:
the fetcher runs while the rest may not be set up yet.
"""
