"""Fetch the font of headings, checked by hash, cut to what is needed, into a folder git ignores.

It is Newsreader (SIL Open Font License 1.1, no reserved name). The wheel carries it whole, with all
weights: 450 KB. One weight and the letters of headings are 26 KB; `subsetting` cuts them out with
fontTools, whose wheel is put on the path of that one program and not installed. The font, its
licence beside it, is kept with its hash checked, so a second start needs no network. Run as
`python -m web.views.fetched.heading_font FOLDER`. Who cannot have it shows the system's serif.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from web.views.fetched.wheels import NotFetched, Wheel, check, download, run, sha256_of

FILE_NAME = "heading.ttf"
LICENCE_NAME = "LICENSE"
FONT = Wheel(
    "fontpkg-newsreader==1.3",
    "fontpkg_newsreader-1.3-py3-none-any.whl",
    "b4becf475d453c0f71b0a089e794113dbc4647f0cf8e96328459911228c58abc",
)
TOOL = Wheel(
    "fonttools==4.68.0",
    "fonttools-4.68.0-py3-none-any.whl",
    "d76f8fdcb6936f5e1045a0c9dd721a4bf11112e60d1e243bfa1d39f06a8b3104",
)
SHA256 = "a8775dd082491f77c421640cdd802fac8fdb535e80341ea22a2a4250531e821e"
_MEMBER = "fontpkg_newsreader/files/Newsreader[opsz,wght].ttf"
_LICENCE = "fontpkg_newsreader/LICENSE"
_PROGRAM = Path(__file__).with_name("subsetting.py")

# Each of two downloads of a megabyte. Less than for the runtime: a site can do without the font,
# and an installed one that has no network waits for it at its start.
_DOWNLOAD_TIMEOUT_S = 30
# It takes two seconds of a slow core.
_SUBSETTING_TIMEOUT_S = 60
_REMEDY = "set HEADING_FONT=system to do without"


def fetch(folder: Path, font: Wheel = FONT, tool: Wheel = TOOL) -> Path:
    """Call this to have the font in `folder`; returns its path. Raises `NotFetched`. Blocking."""
    kept = folder / FILE_NAME
    if is_kept(kept):
        return kept
    with tempfile.TemporaryDirectory(prefix="greenroom-") as name:
        scratch = Path(name)
        for wheel in (font, tool):
            download(wheel, scratch, timeout_s=_DOWNLOAD_TIMEOUT_S, remedy=_REMEDY)
        with zipfile.ZipFile(scratch / font.file) as archive:
            (scratch / "whole.ttf").write_bytes(archive.read(_MEMBER))
            licence = archive.read(_LICENCE)
        content = _subset(scratch, scratch / tool.file)
    check(FILE_NAME, content, SHA256)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LICENCE_NAME).write_bytes(licence)
    kept.write_bytes(content)
    return kept


def is_kept(font: Path) -> bool:
    """Call this to ask whether the file `font` is there and is the expected one."""
    return font.is_file() and sha256_of(font.read_bytes()) == SHA256


def _subset(scratch: Path, tool: Path) -> bytes:
    cut = scratch / FILE_NAME
    command = [sys.executable, str(_PROGRAM), str(scratch / "whole.ttf"), str(cut)]
    try:
        subprocess.run(
            command,
            check=True,
            timeout=_SUBSETTING_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": str(tool)},
            stderr=subprocess.DEVNULL,
        )
        return cut.read_bytes()
    except (subprocess.SubprocessError, OSError) as error:
        raise NotFetched(f"the heading font could not be cut: {error}; {_REMEDY}") from error


def main(arguments: list[str]) -> int:
    """Call this with the folder to fill; returns the exit code."""
    return run("web.views.fetched.heading_font", fetch, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
