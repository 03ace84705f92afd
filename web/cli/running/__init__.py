"""Commands that run a program until it is told to stop: the site (`serving.py`), an example
(`examples.py`), any supervised system (`system.py`). The exercises stand beside the examples
(`exercises.py`): they are written into a folder, and run by who reads; and `measuring/`, which runs
what it measures, and ends by itself.
"""
