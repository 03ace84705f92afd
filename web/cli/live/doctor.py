"""`greenroom doctor`: what would keep a site from running well here, each with what to do.

Rule 1: nothing is changed, and nothing is made: a store that is not there yet is no fault.
Rule 2: one fault hides no other: what cannot be looked at is a finding, and the rest goes on.
"""

from __future__ import annotations

import argparse
import errno
import os
import resource
import shutil
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from storage.errors import StoreError
from storage.postgres import (
    OLDEST_WARNED_S,
    Database,
    ServerFacts,
    StoreHealth,
    check_cluster,
    check_health,
    check_migrations,
    has_embedded,
    server_facts,
)
from web.cli.answering import Teller
from web.cli.live.asking import ask_site
from web.cli.opening import NEEDED, open_store
from web.observability import Code, CommandFailed, first_leaf
from web.observability.metrics.serving import LOOPBACK
from web.settings import BadSettings, Settings, read_settings
from web.wiring.environment import SystemClock
from web.wiring.secret import FILE_NAME, PRIVATE_FILE_NAME

PYTHON = (3, 11)
# The log of a day, and a database that grows meanwhile.
FREE_BYTES_MIN = 1024**3
# Each open page holds one; with fewer a few hundred visitors are refused.
FILES_MIN = 4096
# Sessions, codes and leases are good for seconds at the least.
CLOCK_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what it is like; `fix` is what to do, empty where it is well."""

    check: str
    found: str
    fix: str = ""


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    findings = [one async for one in _looked_at(environment)]
    for one in findings:
        row = {"check": one.check, "ok": not one.fix, "found": one.found, "fix": one.fix or None}
        head = f"{'WRONG' if one.fix else 'ok':<6}{one.check:<13}{one.found}"
        teller.at_once(row, [head, f"{'':<6}{'':<13}-> {one.fix}"] if one.fix else [head])
    wrong = sum(bool(one.fix) for one in findings)
    teller.note(f"{wrong} of {len(findings)} are wrong" if wrong else "nothing is wrong")
    return Code.FAILED if wrong else Code.DONE


async def _looked_at(environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    yield python_finding(sys.version_info[:3])
    for one in _packages():
        yield one
    try:
        settings = read_settings(environment)
        yield Finding("settings", "can be read")
    except BadSettings as error:
        for problem in error.problems:
            yield Finding("settings", problem, "Mend it; docs/reference/settings.md lists them all")
        settings = _without_wrong(environment, error)
    for one in folder_findings(settings.state_dir):
        yield one
    for one in path_findings(settings):
        yield one
    yield await _port("port", "PORT", settings.host, settings.port, environment)
    if settings.metrics_port is not None:
        yield await _port("metrics", "METRICS_PORT", LOOPBACK, settings.metrics_port, environment)
    yield _files()
    async for one in _store(environment, settings):
        yield one


def python_finding(found: tuple[int, ...]) -> Finding:
    """Call this for whether a Python is new enough."""
    spelt = ".".join(map(str, found))
    if found[:2] >= PYTHON:
        return Finding("python", spelt)
    return Finding("python", spelt, f"Use Python {'.'.join(map(str, PYTHON))} or newer")


def _packages() -> Iterator[Finding]:
    """Those that an installed program needs and that are not there; a clone is not installed."""
    try:
        needed = requires("greenroom") or []
    except PackageNotFoundError:
        return
    for line in needed:
        if "extra ==" in line:
            continue
        name = line.split(";")[0].strip().split("[")[0].split("<")[0].split(">")[0].split("=")[0]
        try:
            version(name.strip())
        except PackageNotFoundError:
            yield Finding("packages", f"{name} is missing", f"pip install '{line}'")


def _without_wrong(environment: Mapping[str, str], error: BadSettings) -> Settings:
    """The settings without those that are wrong: of these the defaults."""
    wrong = {problem.partition(":")[0] for problem in error.problems}
    try:
        left = {name: value for name, value in environment.items() if name not in wrong}
        return read_settings(left)
    except BadSettings:
        # One that needs another; all that is looked at from here on.
        return read_settings(
            {name: left[name] for name in (*NEEDED, "HOST", "PORT") if name in left}
        )


# This machine.


def folder_findings(folder: Path) -> Iterator[Finding]:
    """Call this for the state folder: whose it is, who may read it, how much room there is."""
    place = _what_is_there(folder)
    if not os.access(place, os.W_OK | os.X_OK):
        fix = f"chown it to the user who serves, or name another folder (STATE_DIR): {folder}"
        yield Finding("folder", f"{place} cannot be written", fix)
    elif place != folder:
        yield Finding("folder", f"{folder} is not there yet; the site makes it")
    else:
        yield from _owned(folder)
    free = shutil.disk_usage(place).free
    fix = "" if free >= FREE_BYTES_MIN else "Make room: a full disk stops every write"
    yield Finding("disk", f"{free // 1024**2} MiB free at {place}", fix)


def _what_is_there(folder: Path) -> Path:
    """The folder, or the next above it that there is: in that one it would be made."""
    while not _is_there(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # nobody may look, or there is no such name


def _owned(folder: Path) -> Iterator[Finding]:
    found = folder.stat()
    if found.st_uid != os.geteuid():
        user = found.st_uid
        yield Finding("folder", f"{folder} is of user {user}", "Run as that user, or chown it")
    mode = stat.S_IMODE(found.st_mode)
    fix = f"chmod 700 {folder}" if mode & 0o077 else ""
    yield Finding("folder", f"{folder} is {mode:04o}", fix)
    for name in (FILE_NAME, PRIVATE_FILE_NAME):
        path = folder / name
        if _is_there(path) and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            yield Finding("secrets", f"{path} is {mode:04o}", f"chmod 600 {path}")


def path_findings(settings: Settings) -> Iterator[Finding]:
    """Call this for what else the settings name on this machine: folders, and files of secrets."""
    for name, folder in (
        ("BACKUP_DIR", settings.backup_dir),
        ("MAIL_FOLDER", settings.mail_folder),
    ):
        if folder is None:
            continue
        place = _what_is_there(folder)
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            fix = f"chown it to the user who serves, or name another ({name})"
            yield Finding("paths", f"{place} cannot be written", fix)
        else:
            yield Finding("paths", f"{folder} ({name}) can be written")
    for name, file in (
        ("NATS_NKEY_FILE", settings.nats_nkey_file),
        ("NATS_PASSWORD_FILE", settings.nats_password_file),
        ("NATS_TOKEN_FILE", settings.nats_token_file),
        ("NATS_TLS_KEY", settings.nats_tls_key),
        ("KAFKA_TLS_KEY", settings.kafka_tls_key),
    ):
        # That they are there is the settings' own matter.
        if file is None or not _is_there(file):
            continue
        if not os.access(file, os.R_OK):
            yield Finding("secrets", f"{file} ({name}) cannot be read", f"chown it: {file}")
        elif (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
            yield Finding("secrets", f"{file} ({name}) is {mode:04o}", f"chmod 600 {file}")


async def _port(
    check: str, name: str, host: str, port: int, environment: Mapping[str, str]
) -> Finding:
    place = f"{host} port {port}"
    problem = _bound(host, port)
    if problem is None:
        return Finding(check, f"{place} is free")
    if problem.errno == errno.EADDRINUSE:
        if await _is_served(environment):
            return Finding(check, f"{place} is that of the site that runs here")
        fix = f"Stop who listens there (ss -ltnp names it), or choose another {name}"
        return Finding(check, f"{place} is taken, and not by a site on this folder", fix)
    if problem.errno in (errno.EACCES, errno.EPERM):
        return Finding(check, f"{place} is not for this user", f"Choose a {name} above 1023")
    return Finding(check, f"{place}: {problem.strerror or problem}", "Mend HOST, or choose another")


def _bound(host: str, port: int) -> OSError | None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        return error
    return None


async def _is_served(environment: Mapping[str, str]) -> bool:
    async def nobody(row: object) -> None: ...

    try:
        await ask_site(environment, "breakers", {}, nobody)
    except (CommandFailed, OSError):
        return False
    return True


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    found = "as many open files as one likes" if unlimited else f"{soft} open files at once"
    if unlimited or soft >= FILES_MIN:
        return Finding("files", found)
    limit = FILES_MIN if hard == resource.RLIM_INFINITY else min(FILES_MIN, hard)
    return Finding("files", found, f"ulimit -n {limit}, or LimitNOFILE= of its unit")


# The store.


async def _store(environment: Mapping[str, str], settings: Settings) -> AsyncIterator[Finding]:
    findings: list[Finding] = []
    try:
        if settings.database_url is None and not has_embedded(settings.state_dir):
            yield Finding("database", f"none in {settings.state_dir} yet; the site makes one")
            return
        async with open_store(environment, is_any_schema=True) as database:
            findings = [one async for one in _of_database(database)]
    except Exception as raised:  # noqa: BLE001  (rule 2; nurseries wrap what is raised in them)
        leaf = first_leaf(raised)
        is_told = isinstance(leaf, CommandFailed | StoreError | BadSettings)
        words = str(leaf) if is_told else type(leaf).__name__
        if isinstance(leaf, OSError) and leaf.strerror:
            words = f"{leaf.filename or settings.state_dir}: {leaf.strerror}"
        fix = "See that the server runs and lets this user in; DATABASE_URL, or STATE_DIR, names it"
        findings.append(Finding("database", words, fix))
    for one in findings:
        yield one


async def _of_database(database: Database) -> AsyncIterator[Finding]:
    clock = SystemClock()
    began = clock.now()
    facts = await server_facts(database)
    ended = clock.now()
    for one in server_findings(facts, began, ended):
        yield one
    for name, well, look, fix in (
        (
            *("schema", "is this program's", check_migrations),
            "greenroom migrate, or start the program that fits",
        ),
        (
            *("place", "is where its order was made", check_cluster),
            "greenroom store renumber, or store rewound, as it says",
        ),
    ):
        try:
            await look(database)
        except StoreError as error:
            yield Finding(name, str(error), fix)
        else:
            yield Finding(name, well)
    yield transaction_finding(await check_health(database))


def server_findings(facts: ServerFacts, began: datetime, ended: datetime) -> Iterator[Finding]:
    """Call this for how a server is set, asked between two times of this machine."""
    yield Finding("database", f"PostgreSQL {facts.version}")
    if facts.encoding != "UTF8":
        fix = "Make the database anew with ENCODING 'UTF8'"
        yield Finding("encoding", f"is {facts.encoding}: not every text can be kept", fix)
    if not facts.is_durable:
        fix = "Set fsync = on and full_page_writes = on"
        yield Finding("durability", "a loss of power may lose what was acknowledged", fix)
    # Its clock was read at some moment in between.
    off = max(began - facts.now, facts.now - ended, timedelta(0)).total_seconds()
    fix = "" if off <= CLOCK_S_MAX else "Have both set by NTP (timedatectl set-ntp true)"
    yield Finding("clock", f"{off:.1f} s from the database's", fix)


def transaction_finding(health: StoreHealth) -> Finding:
    """Call this for the oldest open transaction, and whatever else the store's health tells."""
    oldest = health.oldest
    age_s = max(health.held_back_s, 0.0 if oldest is None else oldest.age_s)
    if health.status == "healthy" and age_s < OLDEST_WARNED_S:
        return Finding("transactions", "none is open for long")
    fix = "See what it waits for"
    if oldest is not None:
        fix = (
            f"End it: SELECT pg_terminate_backend({oldest.pid})"
            if oldest.pid
            else "End it: COMMIT PREPARED, or ROLLBACK PREPARED"
        )
    return Finding("transactions", health.message or f"one is open for {age_s:.0f} s", fix)
