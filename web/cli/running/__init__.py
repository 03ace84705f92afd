"""Commands that run a program until it is told to stop: the site (`serving.py`), an example
(`examples.py`), any supervised system (`system.py`).
"""
