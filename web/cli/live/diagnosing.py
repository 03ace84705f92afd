"""`greenroom diagnose --out FILE`: one archive with what somebody needs who helps, without secrets.

Rule 1: what can be had is in it: without a running site what the machine and the store tell. What
        could not be had stands in `missing.json`, with the reason.
Rule 2: a file that exists is never written over, and nobody finds half an archive.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import platform
import sys
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

import trio

from actors.runtime.telling.log import one_line
from actors.runtime.words.showing import shown
from storage.errors import StoreError
from storage.postgres import Database, check_store
from web.cli.answering import Teller
from web.cli.live.asking import Row, ask_site
from web.cli.opening import open_store
from web.observability import Code, CommandFailed, first_leaf
from web.observability.operating.control.diagnosing import Cut, settings_text
from web.settings import read_settings
from web.site.pages import program_version
from web.wiring.environment import SystemClock

# What a support desk takes by mail.
BYTES_MAX = 64 * 1024 * 1024
STORE_S_MAX = 120.0
FOLDER = "greenroom-diagnosis"


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    out = Path(parsed.out)
    _look(out)
    settings = read_settings(environment)
    cut, files, missing = Cut(settings), dict[str, str](), dict[str, str]()
    files["about.json"] = json.dumps(_about(), indent=2)
    files["settings.json"] = settings_text(settings)
    try:
        files |= await _of_site(environment, missing)
    except CommandFailed as error:
        missing["of the running site"] = str(error)
    try:
        files["store.json"] = await _of_store(environment, teller)
    except Exception as raised:  # noqa: BLE001  (rule 1; nurseries wrap what is raised in them)
        leaf = first_leaf(raised)
        is_told = isinstance(leaf, CommandFailed | StoreError)
        missing["store.json"] = str(leaf) if is_told else type(leaf).__name__
    files["missing.json"] = json.dumps(missing, indent=2)
    # All of it once more: what the site has cut out is cut by its own settings.
    data = await trio.to_thread.run_sync(
        _packed, {name: cut(name, text) for name, text in files.items()}
    )
    await trio.to_thread.run_sync(_write, out, data)
    told = {"file": str(out), "bytes": len(data), "files": sorted(files)}
    if teller.is_json:
        teller.one({**told, "missing": missing})
    else:
        teller.text(f"{out}: {len(data)} bytes, {len(files)} files")
        for name, reason in missing.items():
            teller.note(f"  without {name}: {one_line(reason)}")
    return Code.DONE


def _about() -> dict[str, object]:
    return {
        "greenroom": program_version(),
        "python": sys.version,
        "system": platform.platform(),
        "at": SystemClock().now().isoformat(),
        "packages": dict(sorted((one.name, one.version) for one in distributions())),
    }


async def _of_site(environment: Mapping[str, str], missing: dict[str, str]) -> dict[str, str]:
    pieces: dict[str, list[str]] = {}
    size = 0

    async def take(row: Row) -> None:
        nonlocal size
        name = Path(str(row["file"])).name
        if "missing" in row:
            missing[name] = f"the site failed to tell it: {row['missing']}"
            return
        text = str(row["text"])
        size += len(text)
        if size > BYTES_MAX:
            missing[name] = "cut off: it was too much"
            return
        pieces.setdefault(name, []).append(text)

    await ask_site(environment, "diagnose", {}, take)
    return {name: "".join(parts) for name, parts in pieces.items()}


async def _of_store(environment: Mapping[str, str], teller: Teller) -> str:
    with trio.fail_after(STORE_S_MAX):
        async with open_store(environment) as database:
            return await _checked(database, teller)


async def _checked(database: Database, teller: Teller) -> str:
    found = await check_store(database, seen=lambda count: teller.progress(f"{count} events read"))
    teller.end_progress()
    problems = [
        {"kind": one.kind, "place": one.place, "words": one.words} for one in found.problems
    ]
    told = {
        "events": found.events,
        "streams": found.streams,
        "problems": problems,
        "unknown": dict(found.unknown),
    }
    return json.dumps(told, indent=2, default=shown)


def _look(out: Path) -> None:
    if out.is_symlink() or out.exists():
        raise _there(out)
    if not out.absolute().parent.is_dir():
        raise CommandFailed(Code.UNKNOWN, f"there is no folder {out.absolute().parent}")


def _there(out: Path) -> CommandFailed:
    return CommandFailed(Code.REFUSED, f"{out} exists; nothing was written", "Name another file")


def _packed(files: Mapping[str, str]) -> bytes:
    buffer, at = io.BytesIO(), int(SystemClock().now().timestamp())
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in sorted(files.items()):
            data = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), at, 0o600
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _write(out: Path, data: bytes) -> None:
    """Write it whole or not at all, and over nothing."""
    half = out.with_name(f".{out.name}.{os.getpid()}.half")
    try:
        opened = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(opened, left) :]
            os.fsync(opened)
        finally:
            os.close(opened)
        os.link(half, out)
    except FileExistsError as error:
        raise _there(out) from error
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        hint = "Name a file on another disk" if is_full else ""
        words = f"{out} cannot be written ({error.strerror or error}); nothing is left of it"
        raise CommandFailed(Code.FAILED, words, hint) from error
    finally:
        with suppress(OSError):
            half.unlink()
