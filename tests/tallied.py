"""What the actors of a system have counted, as a test wants it."""

from __future__ import annotations

from actors.runtime import System


def numbers(system: System, name: str) -> dict[tuple[str, ...], int]:
    """The count of a metric for each set of its labels."""
    return {labels: number for one, labels, number in system.tallies.counts() if one == name}


def times(system: System, name: str) -> dict[tuple[str, ...], int]:
    """How many times were noted of a metric for each set of its labels."""
    return {
        labels: sum(found.counts)
        for one, labels, found in system.tallies.histograms()
        if one == name
    }
