"""Telling people what happens: the one way from the packages to a log, which never raises.

Read `log.py` (what a line is, where it goes, what becomes of one that cannot be written), then
`lines.py` (how a line is written).
"""
