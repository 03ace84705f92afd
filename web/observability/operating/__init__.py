"""How operators look into a running site and change it, from its own machine or by its pages.

Read `recent.py`: the newest lines of the log; `control/`: the socket that the command line asks;
`overview/`: the figures of a process; `letters/`: what is done about dead letters; `traces/`: what
took how long in a request, and in all that it caused; `outside_page.py`: what is called outside;
and `nodes.py`: who serves together with this process.
"""
