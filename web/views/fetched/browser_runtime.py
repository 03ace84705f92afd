"""Fetch the Datastar browser runtime, checked by hash, into a folder git ignores.

The v1 runtime is published on no registry as its own package; the wheel named here carries
it as one self-contained file. The wheel itself cannot be installed on Python 3.11, so it is
downloaded as a file and the one script and its licences are taken out. Nothing of it is
committed. Run as `python -m web.views.fetched.browser_runtime FOLDER`; a file that is there
already and has the right hash is kept, so a second start needs no network.
"""

import io
import sys
import tempfile
import zipfile
from pathlib import Path

from web.views.fetched.wheels import Wheel, check, download, run, sha256_of

FILE_NAME = "datastar.js"
WHEEL = Wheel(
    "starhtml==0.7.0",
    "starhtml-0.7.0-py3-none-any.whl",
    "3515ac3a21f1be7ce3e724b45440ed2be20d3afcdb60f92f6ebbfaec883d3ea2",
)
_SCRIPT = "starhtml/static/js/datastar-core.js"
_SCRIPT_SHA256 = "31c8c9efb895beadeba5f73407c3ca60201dee321c5dea56c182817b475bde9f"
_LICENCES = (
    "starhtml-0.7.0.dist-info/licenses/LICENSE",
    "starhtml-0.7.0.dist-info/licenses/NOTICE",
)

# A slow mirror gets its time; a dead one does not hold the set-up for ever.
_DOWNLOAD_TIMEOUT_S = 120


def fetch(folder: Path, wheel: Wheel = WHEEL) -> Path:
    """Call this to have the runtime in `folder`; returns its path. Raises `NotFetched`."""
    script = folder / FILE_NAME
    if script.is_file() and sha256_of(script.read_bytes()) == _SCRIPT_SHA256:
        return script
    with tempfile.TemporaryDirectory(prefix="greenroom-") as scratch:
        found = download(
            wheel,
            Path(scratch),
            timeout_s=_DOWNLOAD_TIMEOUT_S,
            remedy="name a copy of the browser runtime in DATASTAR_JS",
        )
        members = unpack(found.read_bytes(), sha256=wheel.sha256)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)
    return script


def unpack(wheel: bytes, *, sha256: str = WHEEL.sha256) -> dict[str, bytes]:
    """Call this to take script and licences out of the wheel's bytes, by file name.

    Raises `NotFetched` when the bytes are not those of the expected wheel.
    """
    check(WHEEL.file, wheel, sha256)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        members = {Path(name).name: archive.read(name) for name in _LICENCES}
        members[FILE_NAME] = archive.read(_SCRIPT)
    check(f"{_SCRIPT} in {WHEEL.file}", members[FILE_NAME], _SCRIPT_SHA256)
    return members


def main(arguments: list[str]) -> int:
    """Call this with the folder to fill; returns the exit code."""
    return run("web.views.fetched.browser_runtime", fetch, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
