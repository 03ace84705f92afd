"""Fetch the Datastar browser runtime, checked by hash, into a folder git ignores.

The v1 runtime is published on no registry as its own package; the wheel named here carries
it as one self-contained file. The wheel itself cannot be installed on Python 3.11, so it is
downloaded as a file and the one script and its licences are taken out. Nothing of it is
committed. Run as `python -m web.views.browser_runtime FOLDER`; a file that is there already
and has the right hash is kept, so a second start needs no network.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FILE_NAME = "datastar.js"
_PACKAGE = "starhtml==0.7.0"
_WHEEL = "starhtml-0.7.0-py3-none-any.whl"
_WHEEL_SHA256 = "3515ac3a21f1be7ce3e724b45440ed2be20d3afcdb60f92f6ebbfaec883d3ea2"
_SCRIPT = "starhtml/static/js/datastar-core.js"
_SCRIPT_SHA256 = "31c8c9efb895beadeba5f73407c3ca60201dee321c5dea56c182817b475bde9f"
_LICENCES = (
    "starhtml-0.7.0.dist-info/licenses/LICENSE",
    "starhtml-0.7.0.dist-info/licenses/NOTICE",
)

# A slow mirror gets its time; a dead one does not hold the set-up for ever.
_DOWNLOAD_TIMEOUT_S = 120


class RuntimeNotFetched(Exception):
    """Raised when the runtime could not be had or is not the expected file; nothing was kept."""


def fetch(folder: Path) -> Path:
    """Call this to have the runtime in `folder`; returns its path. Raises `RuntimeNotFetched`."""
    script = folder / FILE_NAME
    if script.is_file() and _sha256(script.read_bytes()) == _SCRIPT_SHA256:
        return script
    with tempfile.TemporaryDirectory(prefix="greenroom-") as scratch:
        members = unpack(_download(Path(scratch)).read_bytes())
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)
    return script


def unpack(wheel: bytes, *, sha256: str = _WHEEL_SHA256) -> dict[str, bytes]:
    """Call this to take script and licences out of the wheel's bytes, by file name.

    Raises `RuntimeNotFetched` when the bytes are not those of the expected wheel.
    """
    if _sha256(wheel) != sha256:
        raise RuntimeNotFetched(
            f"{_WHEEL} has SHA-256 {_sha256(wheel)}, expected {sha256}; it was not used"
        )
    with tempfile.TemporaryFile() as file:
        file.write(wheel)
        with zipfile.ZipFile(file) as archive:
            members = {Path(name).name: archive.read(name) for name in _LICENCES}
            members[FILE_NAME] = archive.read(_SCRIPT)
    if _sha256(members[FILE_NAME]) != _SCRIPT_SHA256:
        raise RuntimeNotFetched(f"{_SCRIPT} in {_WHEEL} is not the expected file; it was not used")
    return members


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--python-version", "3.12"]
    try:
        subprocess.run(
            [*command, "--dest", str(folder), _PACKAGE], check=True, timeout=_DOWNLOAD_TIMEOUT_S
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise RuntimeNotFetched(
            f"the browser runtime ({_PACKAGE}) could not be downloaded: {error}. "
            "Try again with network access, or name a copy in DATASTAR_JS"
        ) from error
    return folder / _WHEEL


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(arguments: list[str]) -> int:
    """Call this with the folder to fill; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m web.views.browser_runtime FOLDER", file=sys.stderr)
        return 2
    try:
        fetch(Path(arguments[0]))
    except RuntimeNotFetched as error:
        print(f"greenroom: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
