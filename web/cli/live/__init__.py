"""Commands that ask the site that runs, by its socket, and `lab`, by a file in its state folder.

Read `asking.py`: how each does; then a file a group of commands.
"""
