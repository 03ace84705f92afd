"""Commands that run a program until it is told to stop: the site (`serving.py`), an example."""
