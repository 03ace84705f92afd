"""Where the greenroom that runs came from, as pip is told it; and its wheel.

A program that is made needs the greenroom it was made by, pinned: the wheel, checkout or commit
that was installed (`direct_url.json`, PEP 610), else this version from the index.
"""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree, ignore_patterns
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

NAME = "greenroom"
HOUSE = Path(__file__).parents[3]
BUILD_S_MAX = 300
# What a checkout has beside its packages; none of it belongs into a wheel.
_LEFT_OUT = ignore_patterns(".*", "build", "tests", "*.egg-info", "__pycache__", "requirements")
_EPOCH = (1980, 1, 1, 0, 0, 0)


class NoWheel(Exception):
    """Raised when no wheel of this greenroom could be had; `why` is the builder's last line."""

    def __init__(self, why: str) -> None:
        super().__init__(f"no wheel of this greenroom could be made: {why}")
        self.why = why


class _Vcs(msgspec.Struct):
    vcs: str
    commit_id: str = ""


class _Archive(msgspec.Struct):
    hash: str = ""
    hashes: dict[str, str] = {}


class DirectUrl(msgspec.Struct):
    """What `direct_url.json` says (PEP 610)."""

    url: str
    vcs_info: _Vcs | None = None
    archive_info: _Archive | None = None


def requirement(extras: Iterable[str] = (), *, is_vendored: bool = False) -> str:
    """Call this for what a program writes as its dependency."""
    wanted = ",".join(sorted(extras))
    name = f"{NAME}[{wanted}]" if wanted else NAME
    installed = _maybe_installed()
    if installed is None:
        version = _version_of_checkout()
        return f"{name}=={version}" if is_vendored else f"{name} @ {HOUSE.as_uri()}"
    told = None if is_vendored else _direct_url(installed)
    return f"{name}=={installed.version}" if told is None else f"{name} @ {reference(told)}"


def reference(told: DirectUrl) -> str:
    """Call this for an address with what pins it, without whoever signed in there."""
    address = _without_person(told.url)
    if told.vcs_info is not None:
        pin = f"@{told.vcs_info.commit_id}" if told.vcs_info.commit_id else ""
        return f"{told.vcs_info.vcs}+{address}{pin}"
    if told.archive_info is not None:
        digest = told.archive_info.hashes.get("sha256", "")
        if not digest and told.archive_info.hash.startswith("sha256="):
            digest = told.archive_info.hash.removeprefix("sha256=")
        return f"{address}#sha256={digest}" if digest else address
    return address


def wheel() -> tuple[str, bytes]:
    """Call this for a wheel of the greenroom that runs: its file name and content; `NoWheel`.

    An installed one is packed anew from its files, without network; a checkout is built.
    """
    installed = _maybe_installed()
    return _built() if installed is None else _packed(installed)


def _maybe_installed() -> Distribution | None:
    """What was installed; None for a checkout, whatever a build or pip has left in or of it."""
    if (HOUSE / "pyproject.toml").is_file():
        return None
    try:
        return distribution(NAME)
    except PackageNotFoundError as error:
        raise NoWheel(f"{HOUSE} was not installed by pip") from error


def _direct_url(installed: Distribution) -> DirectUrl | None:
    text = installed.read_text("direct_url.json")
    if text is None:
        return None
    told = msgspec.json.decode(text, type=DirectUrl)
    parts = urlsplit(told.url)
    is_gone = parts.scheme == "file" and not Path(unquote(parts.path)).exists()
    return None if is_gone else told


def _without_person(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _version_of_checkout() -> str:
    for line in (HOUSE / "pyproject.toml").read_text("utf-8").splitlines():
        if line.startswith("version = "):
            return line.split('"')[1]
    raise NoWheel("its pyproject.toml has no version")


def _packed(installed: Distribution) -> tuple[str, bytes]:
    """Pack the files of an installed distribution into a wheel again."""
    rows, packed = [], io.BytesIO()
    info = f"{NAME}-{installed.version}.dist-info"
    kept = {"METADATA", "WHEEL", "entry_points.txt", "top_level.txt", "licenses"}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(installed.files or (), key=str):
            path = file.as_posix()
            is_info = path.startswith(f"{info}/")
            if path.startswith("..") or path.endswith(".pyc"):
                continue  # the program's script, and what was compiled here
            if is_info and path.split("/")[1] not in kept:
                continue  # how it came here
            content = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            rows.append(f"{path},sha256={digest.decode()},{len(content)}\n")
            archive.writestr(zipfile.ZipInfo(path, _EPOCH), content, zipfile.ZIP_DEFLATED)
        rows.append(f"{info}/RECORD,,\n")
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", _EPOCH), "".join(rows))
    return f"{NAME}-{installed.version}-py3-none-any.whl", packed.getvalue()


def _built() -> tuple[str, bytes]:
    """Build it from a copy of the checkout: a build leaves folders where it was made."""
    words = ["-m", "pip", "wheel", ".", "--no-deps", "--quiet", "--wheel-dir", "made"]
    if find_spec("setuptools") is not None:
        words.append("--no-build-isolation")  # and so without network
    with TemporaryDirectory(prefix="greenroom-") as scratch:
        folder = Path(scratch, NAME)
        copytree(HOUSE, folder, ignore=_LEFT_OUT)
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder, capture_output=True, text=True, check=False, timeout=BUILD_S_MAX,
        )  # fmt: skip
        found = list(folder.glob("made/*.whl"))
        if done.returncode != 0 or len(found) != 1:
            raise NoWheel((done.stderr.strip().splitlines() or ["pip told nothing"])[-1])
        return found[0].name, found[0].read_bytes()
