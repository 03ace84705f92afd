"""Signals as a program meets them that a person has started.

`nohup`, and a shell that starts the tests behind `&`, leave signals ignored for everything below
them. A program that a test starts in order to signal it must not inherit that.
"""

import signal


def as_a_person_starts_it() -> None:
    """Call this in the child of a fork (`preexec_fn`); it takes no lock and allocates nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
