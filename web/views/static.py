"""The files under `/static/`: their bytes, their types, and names that carry their hash.

`table` is pure and knows no disk; `load` reads the package's files, and what is fetched at set-up
and never part of the repository: the browser runtime and the font of headings. A name with a hash
never changes its content, so browsers may keep it for ever.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from web.views.words import LocalPath, ViewError, local_path

PREFIX = "/static/"
# A year, the longest time HTTP caches are asked to keep anything.
CACHE_CONTROL = "public, max-age=31536000, immutable"
DATASTAR = "datastar.js"
SHEET = "app.css"
HEADING_FONT = "heading.ttf"
# Files that are needed together: the head of an answer alone is half a kilobyte, and what comes
# second is packed better behind the first. The last of them is for each page that has a stream.
JOINED = {
    "lab_chat.css": ("lab.css", "chat.css"),
    "lab_chat.js": ("lab.js", "chat.js"),
    "live.js": ("app.js", "connection.js"),
}
# Behind the sheet where the font is there. Nothing jumps when it comes: what a heading is set in
# until then is a system's font made as wide (measured over our headings: 102 % of Times bold) and
# as high (the font's own 0.735 and 0.265 of an em, over that factor).
_HEADING_RULES = """\
@font-face{font-family:heading;src:url(%s);font-weight:400 700;font-display:swap}
@font-face{font-family:waiting;src:local("Times New Roman Bold"),local("Liberation Serif Bold");\
font-weight:400 700;size-adjust:102%%;ascent-override:72%%;descent-override:26%%;\
line-gap-override:0%%}
:root{--serif:heading,waiting,serif}
"""
# 48 bits tell two versions of one file apart; it is a name, not a signature.
_HASH_LENGTH = 12
_PACKAGE_FILES = Path(__file__).with_name("static")
_CONTENT_TYPES = {
    ".ico": "image/x-icon",
    ".png": "image/png",
    ".ttf": "font/ttf",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}


class UnknownFile(ViewError, LookupError):
    """Raised when a template names a static file that is not in the table.

    Nothing was rendered. Correct the name, or add the file to `web/views/static`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no static file {name!r}; nothing was rendered.")
        self.name = name


class UnservableFile(ViewError, ValueError):
    """Raised when a file's type is not among those the site serves; no table was made."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} has a type the site does not serve; no table was made.")
        self.name = name


@dataclass(frozen=True, slots=True)
class StaticFile:
    """What is answered for one name: `body`, and its true `content_type`."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class StaticTable:
    """All files by their hashed name; asked by the route, and by templates for addresses."""

    files: Mapping[str, StaticFile]
    hashed_names: Mapping[str, str]

    def find(self, hashed_name: str) -> StaticFile | None:
        """Call this to get the file for `/static/<hashed_name>`, or None."""
        return self.files.get(hashed_name)

    def url(self, name: str) -> LocalPath:
        """Call this to get the address of file `name`; raises `UnknownFile`."""
        if name not in self.hashed_names:
            raise UnknownFile(name)
        return local_path(PREFIX + self.hashed_names[name])


def table(contents: Mapping[str, bytes]) -> StaticTable:
    """Call this to make the table of `contents` (name to bytes); raises `UnservableFile`."""
    files: dict[str, StaticFile] = {}
    hashed_names: dict[str, str] = {}
    for name, body in contents.items():
        path = PurePosixPath(name)
        if path.suffix not in _CONTENT_TYPES:
            raise UnservableFile(name)
        hashed_names[name] = _hashed_name(path, body)
        files[hashed_names[name]] = StaticFile(body, _CONTENT_TYPES[path.suffix])
    return StaticTable(MappingProxyType(files), MappingProxyType(hashed_names))


def _hashed_name(path: PurePosixPath, body: bytes) -> str:
    digest = hashlib.sha256(body).hexdigest()[:_HASH_LENGTH]
    return f"{path.stem}.{digest}{path.suffix}"


_CSS_COMMENT = re.compile(rb"/\*.*?\*/", re.DOTALL)
# Spaces behind what ends a word of a rule, and around its braces; texts are left as they are.
_CSS_ROOM = re.compile(rb'("[^"\n]*")|(?<=[;{},:]) +| +(?=[{}])')


def slim(name: str, body: bytes) -> bytes:
    """Call this to leave out of a script or style sheet what only readers of its source need.

    Comments that have lines of their own, indentation, empty lines, and the room in rules of a
    sheet: a sixth of what goes over the wire. No script of ours has a text over several lines,
    which a test sees to, so a line means the same without its indentation.
    """
    if name.endswith(".css"):
        body = _CSS_ROOM.sub(lambda found: found[1] or b"", _CSS_COMMENT.sub(b"", body))
    elif not name.endswith(".js"):
        return body
    lines = [line.strip() for line in body.split(b"\n")]
    is_script = name.endswith(".js")
    kept = [line for line in lines if line and not (is_script and line.startswith(b"//"))]
    return b"\n".join(kept) + b"\n"


def _by_itself(name: str, body: bytes) -> bytes:
    """A script in a block keeps its names for itself, as a module does that is a file."""
    return b"{\n%s}\n" % body if name.endswith(".js") else body


def load(datastar: Path, own: Path | None = None, font: Path | None = None) -> StaticTable:
    """Call this once at start-up to read all files; raises `OSError` if one is missing.

    `datastar` is the browser runtime, `own` a folder whose files stand beside ours, or in place of
    one of the same name; both are kept as they came. `font` is what headings are set in, where the
    system's serif is not to do. Raises `UnservableFile` for a type that is not served. Blocking:
    call it before the server accepts anyone.
    """
    files = sorted(_PACKAGE_FILES.iterdir())
    contents = {file.name: slim(file.name, file.read_bytes()) for file in files}
    if own is not None:
        found = (file for file in sorted(own.iterdir()) if file.is_file())
        contents |= {file.name: file.read_bytes() for file in found if file.name[0] != "."}
    for name, parts in JOINED.items():
        contents[name] = b"".join(_by_itself(part, contents[part]) for part in parts)
    contents[DATASTAR] = datastar.read_bytes()
    if font is not None:
        contents[HEADING_FONT] = font.read_bytes()
        name = _hashed_name(PurePosixPath(HEADING_FONT), contents[HEADING_FONT])
        contents[SHEET] += (_HEADING_RULES % name).encode("ascii")
    return table(contents)
