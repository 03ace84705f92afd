"""Devices: the browsers and machines an account was used from, and how far each is trusted.

Read `words.py`: what a device is, and how trust grows by use. `fingerprint.py` compares what a
browser shows of itself, for services that look at it; `port.py` is what its owner does with one.
"""
