"""Checkouts of a site of several nodes: who shows one is told when another node goes on with it."""

from __future__ import annotations

from typing import Never

from actors.cluster import Cluster, Hearing
from actors.runtime import Actor, Exit, message
from web.lab.demos.checkout.visitors import Checkouts

TOPIC = "lab-checkouts"


@message(remote=True, name="lab.checkout")
class CheckoutChanged:
    """One of a visitor's is another than before; `owner` is the digest of whose."""

    owner: str


class CheckoutsAcross(Actor[Never]):
    """Tells the other nodes, and hears them.

    What is not heard is seen a second later: who looks reads the logs each second.
    """

    def __init__(self, cluster: Cluster, checkouts: Checkouts) -> None:
        self._cluster, self._checkouts = cluster, checkouts
        self._hearing: Hearing | None = None

    def on_start(self) -> None:
        """Begin to."""
        self._hearing = self._cluster.hear(TOPIC, self._hear)
        self._checkouts.tell_others = self._tell

    def on_stop(self, exit_: Exit) -> None:
        """Hear no more."""
        self._checkouts.tell_others = lambda owner: None
        if self._hearing is not None:
            self._hearing.end()

    def _tell(self, owner: str) -> None:
        self._cluster.publish(TOPIC, CheckoutChanged(owner))

    def _hear(self, told: object) -> None:
        if isinstance(told, CheckoutChanged):
            self._checkouts.changed_elsewhere(told.owner)
