"""The link of this process as a node: from settings to the adapter, and what a start sees of it.

Only a node needs the library, so it is imported where one is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from actors.cluster.link import (
    FRAME_BYTES_MAX,
    Link,
    LinkAbsent,
    LinkRefused,
    LinkStatus,
    Subjects,
)
from actors.runtime import AnyActor, Log
from web.app.clustering import EXIT_SETTINGS, Refused, node_name
from web.observability import first_leaf
from web.observability.health import Finding, degraded, healthy, unhealthy
from web.settings import Cluster, Settings

if TYPE_CHECKING:
    from storage.link.nats_words import NatsSettings

# A server that is needed, and is not there or does not start: nothing is wrong with the settings.
EXIT_ABSENT = 1
# CLU-56. Before it one node that does not read slows those who send to it.
STALLS_BEFORE = (2, 10, 26)
# CLU-5. A server that is started anew is back long before; from here on somebody has to look.
DOWN_S_MAX = 30.0

log = Log(__name__)


class NodeLink:
    """The link of this node, as the tree and the health know it."""

    def __init__(self, settings: Settings) -> None:
        from storage.link.nats import NatsLink, NatsLinkActor  # noqa: PLC0415  (see the module)

        link = NatsLink(nats_settings(settings))
        self.link: Link = link
        self.make: Callable[[], AnyActor] = lambda: NatsLinkActor(link)
        self._down_since: float | None = None
        link.watch(self._changed)

    def is_up(self) -> bool:
        """Call this to ask whether there is a link at this moment."""
        return self.link.status().is_up

    def check(self) -> Finding:
        """Call this to learn how the link is: without one what is local goes on.

        So the node stays ready, however long it lasts; whether others have theirs tells `cluster`.
        """
        since = self._down_since
        return judge_link(self.link.status(), 0.0 if since is None else trio.current_time() - since)

    def _changed(self, status: LinkStatus) -> None:
        if status.is_up:
            self._down_since = None
            log.info("link.up", server=status.server, version=status.version)
            return
        self._down_since = trio.current_time()
        log.warning("link.down", server=status.server)


def judge_link(status: LinkStatus, down_s: float) -> Finding:
    """Call this for how a link is that is up, or has been down for so long."""
    if status.is_up:
        return healthy(version=status.version, connects=status.connects)
    words, down_s = "no link to other nodes", round(down_s, 1)
    if down_s <= DOWN_S_MAX:
        return degraded(words, down_s=down_s, connects=status.connects)
    found = unhealthy(words, down_s=down_s, connects=status.connects)
    return replace(found, stays_ready=True)


def link_of(settings: Settings) -> NodeLink | None:
    """Call this for the link that this process has, None with `CLUSTER=off`."""
    return None if settings.cluster is Cluster.OFF else NodeLink(settings)


def nats_settings(settings: Settings) -> NatsSettings:
    """Call this for what the adapter is given."""
    from storage.link.nats_words import (  # noqa: PLC0415  (see the module)
        NatsCredentials,
        NatsSettings,
        NatsTls,
    )

    return NatsSettings(
        settings.nats_url,
        node_name(settings),
        Subjects(settings.cluster_name).everything.removesuffix(".>"),
        NatsCredentials(
            settings.nats_nkey_file,
            settings.nats_user,
            settings.nats_password_file,
            settings.nats_token_file,
        ),
        NatsTls(settings.nats_tls_ca, settings.nats_tls_cert, settings.nats_tls_key),
        FRAME_BYTES_MAX,
    )


async def check_link(settings: Settings, *, wait_s: float | None = None) -> None:
    """Call this at a start, once the database answers; raises `Refused` (CLU-4).

    A server that is not there is waited for, 30 s at most; what waiting does not mend is told at
    once. The connection is closed again: the tree opens its own.
    """
    if settings.cluster is Cluster.OFF:
        return
    try:
        from storage.link.nats import open_nats_link  # noqa: PLC0415  (see the module)
        from storage.link.nats_words import FIRST_CONNECT_S_MAX  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Refused(
            f"CLUSTER: on needs {error.name}; install greenroom[cluster]", EXIT_SETTINGS
        ) from error
    limit_s = FIRST_CONNECT_S_MAX if wait_s is None else wait_s
    try:
        async with open_nats_link(nats_settings(settings), wait_s=limit_s) as link:
            _warn_of_old(link.status())
    except* LinkRefused as group:
        raise Refused(f"NATS_URL: {first_leaf(group)}", EXIT_SETTINGS) from group
    except* LinkAbsent as group:
        raise Refused(f"NATS_URL: {first_leaf(group)}", EXIT_ABSENT) from group


def _warn_of_old(status: LinkStatus) -> None:
    try:
        version = tuple(int(part) for part in status.version.split("-")[0].split("."))
    except ValueError:
        return
    if version < STALLS_BEFORE:
        log.warning(
            "link.server_old",
            version=status.version,
            known_from=".".join(map(str, STALLS_BEFORE)),
            means="a node that does not read may slow others",
        )
