"""How operators look into a running site and change it, from its own machine or by its pages.

`control/` is the socket that the command line asks; `letters/` what is done about dead letters;
`traces/` what took how long in a request, and in all that it caused.
"""
