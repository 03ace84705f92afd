"""As whom the embedded PostgreSQL runs: PostgreSQL refuses to be root, so root lends a name.

A normal user runs it as themselves. Root runs it as the owner of the existing data, else as
`postgres`, else as `nobody`; where folders or programs on the way belong to root alone, the
server also gets the right to pass them (an ambient capability set by `setpriv`), so that no
folder has to be opened to everybody.
"""

import os
import pwd
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.errors import EmbeddedFailed

# In this order; `nobody` exists everywhere.
_ACCOUNTS = ("postgres", "nobody")

# Numbers as in linux/capability.h.
_DAC_OVERRIDE, _DAC_READ_SEARCH, _SETPCAP = 1, 2, 8

# The smaller right first; containers often have only the larger one.
_TO_PASS_FOLDERS = {"dac_read_search": _DAC_READ_SEARCH, "dac_override": _DAC_OVERRIDE}
# To run a file whose own bits forbid it, only the larger one helps.
_TO_RUN_PROGRAMS = {"dac_override": _DAC_OVERRIDE}

# PostgreSQL looks for its own programs with access(2), which judges by the real user and leaves
# the capabilities out as soon as that is not root, unless this bit is set (capabilities(7)).
# `exec` takes all rights but the lent one away from a normal user, with the bit as without.
_JUDGE_BY_CAPABILITIES = "--securebits=+no_setuid_fixup"


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server: ids to own its files with, and what stands before its commands."""

    uid: int
    gid: int
    prefix: tuple[str, ...]


def open_own(path: Path, flags: int) -> int:
    """Call this to open a file that is made where it is not, for whose folder it is; a descriptor.

    What root makes among the files of the server's user is that user's: the server reads all of its
    folder for a base backup, and whoever works there without root must come by.
    """
    # A link of theirs would lead root anywhere.
    flags |= os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    try:
        give_to_folder(path, handle)
    except BaseException:
        os.close(handle)
        raise
    return handle


def give_to_folder(path: Path, handle: int | None = None) -> None:
    """Call this to give what is root's to whom its folder belongs; a file with one name.

    Root alone may: for anybody else it does nothing.
    """
    if os.geteuid() != 0:
        return
    owner = path.parent.stat()
    found = path.lstat() if handle is None else os.fstat(handle)
    is_file = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if is_file and found.st_uid == 0 and owner.st_uid != 0:
        os.chown(path if handle is None else handle, owner.st_uid, owner.st_gid)


def choose_account(data: Path, programs: Path, also: Sequence[Path] = ()) -> Account:
    """Call this to learn as whom the server of a data folder runs; raises `EmbeddedFailed`.

    `also` are other places that it must come to, such as those of its backups.
    """
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
    prefix += _lent_right((data, *also), programs, entry)
    return Account(entry.pw_uid, entry.pw_gid, tuple(prefix))


def _lent_right(places: Sequence[Path], programs: Path, entry: pwd.struct_passwd) -> list[str]:
    """What `setpriv` is told so that the user gets past all that is closed to them."""
    closed_program = _first_closed_program(programs, entry)
    on_the_way_to_programs = closed_program or _first_closed_folder(programs, entry)
    closed = (_first_closed_folder(place, entry) for place in places)
    blocked = on_the_way_to_programs or next((one for one in closed if one is not None), None)
    if blocked is None:
        return []
    held = _held()
    helping = _TO_RUN_PROGRAMS if closed_program else _TO_PASS_FOLDERS
    capability = next((name for name, bit in helping.items() if held >> bit & 1), None)
    may_set_bits = bool(held >> _SETPCAP & 1)
    if capability is None or (on_the_way_to_programs and not may_set_bits):
        raise EmbeddedFailed(
            f"user {entry.pw_name}, as whom root runs PostgreSQL, may not pass {blocked}; "
            "run as a normal user, move to a folder open to all, or set DATABASE_URL"
        )
    bits = [_JUDGE_BY_CAPABILITIES] if may_set_bits else []
    return [*bits, f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]


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


def _first_closed_folder(target: Path, entry: pwd.struct_passwd) -> Path | None:
    """The first folder on the way that the user may not pass; by links and without them."""
    for road in (target.absolute(), target.resolve()):
        for folder in reversed(road.parents):
            if folder.exists() and not _may_pass(folder, entry):
                return folder
    return None


def _first_closed_program(programs: Path, entry: pwd.struct_passwd) -> Path | None:
    """The folder of the programs or one of them, where a strict umask kept it for root."""
    return next(
        (path for path in (programs, *programs.iterdir()) if not _may_pass(path, entry)), None
    )


def _may_pass(path: Path, entry: pwd.struct_passwd) -> bool:
    """Whether the bits let the user enter a folder, or run a file."""
    status = path.stat()
    if status.st_uid == entry.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == entry.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _held() -> int:
    """The capabilities that this process has and can hand on, as bits; none where none are told."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
