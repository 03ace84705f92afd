"""As whom the embedded PostgreSQL runs: PostgreSQL refuses to be root, so root lends a name.

A normal user runs it as themselves. Root runs it as the owner of the existing data, else as
`postgres`, else as `nobody`; where folders on the way belong to root alone, the server also
gets the right to pass through them (an ambient capability set by `setpriv`), so that no
folder has to be opened to everybody.
"""

import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from storage.errors import EmbeddedFailed

# In this order; `nobody` exists everywhere.
_ACCOUNTS = ("postgres", "nobody")

# The smaller right first; containers often have only the larger one.
_CAPABILITIES = (("dac_read_search", 2), ("dac_override", 1))


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server: ids to own its files with, and what stands before its commands."""

    uid: int
    gid: int
    prefix: tuple[str, ...]


def choose_account(data: Path, programs: Path) -> Account:
    """Call this to learn as whom the server of a data folder runs; raises `EmbeddedFailed`."""
    uid = os.geteuid()
    if uid != 0:
        return Account(uid, os.getegid(), ())
    entry = _entry_for(data)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedFailed(
            "root cannot run PostgreSQL and the command setpriv (util-linux) is missing; "
            "run as a normal user, or set DATABASE_URL"
        )
    prefix = [setpriv, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    blocked = _first_blocked((data, programs), entry.pw_uid, entry.pw_gid)
    if blocked is not None:
        capability = _held_capability()
        if capability is None:
            raise EmbeddedFailed(
                f"user {entry.pw_name}, as whom root runs PostgreSQL, may not pass {blocked}; "
                "run as a normal user, choose another STATE_DIR, or set DATABASE_URL"
            )
        prefix += [f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]
    return Account(entry.pw_uid, entry.pw_gid, tuple(prefix))


def _entry_for(data: Path) -> pwd.struct_passwd:
    if data.exists() and (owner := data.stat().st_uid) != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            raise EmbeddedFailed(f"{data} belongs to user {owner}, who does not exist") from None
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedFailed(f"none of the users {', '.join(_ACCOUNTS)} exists to run it for root")


def _first_blocked(targets: tuple[Path, ...], uid: int, gid: int) -> Path | None:
    """The first folder on the way to one of the targets that the user may not pass."""
    for target in targets:
        for folder in reversed(target.resolve().parents):
            if folder.exists() and not _may_pass(folder.stat(), uid, gid):
                return folder
    return None


def _may_pass(status: os.stat_result, uid: int, gid: int) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _held_capability() -> str | None:
    """The smallest right to pass any folder that this process can hand on."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    held = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return next((name for name, bit in _CAPABILITIES if held >> bit & 1), None)
