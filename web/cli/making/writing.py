"""All files of a change, or none of them: also on a full disk, and when the process is killed.

Everything is written into a folder beside its place first, and forced to the disk: what fails there
fails before anything has changed. A new program then gets its place by one rename. A part goes into
a program that is there, file by file, so a list of them is written behind the files: from then on
the change is made whole by whoever comes next (`finish`), before it nothing of it is ever seen.

Rule 1: a file that is there is never written over but where the change names it, with the text that
it was read with. Rule 2: what lies beside is removed by whoever holds its lock; the system gives up
the lock of a process that dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import msgspec

from web.cli.making.words import Files

_LIST = "list.json"


class Exists(Exception):
    """Raised when something is there already; nothing was written. `files` are those."""

    def __init__(self, files: Sequence[str]) -> None:
        super().__init__(f"is there already: {', '.join(files)}")
        self.files = files


class Changed(Exception):
    """Raised when a file was changed by somebody meanwhile; nothing was written."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} was changed meanwhile")
        self.file = file


class Linked(Exception):
    """Raised for a link where a part is registered; nothing was written.

    A file in its place would leave what it leads to behind, which others may use.
    """

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} is a link")
        self.file = file


class _List(msgspec.Struct, frozen=True):
    """What is to be put where: files that are new, then those that take the place of others."""

    new: tuple[str, ...]
    instead: tuple[str, ...]


def make_program(folder: Path, files: Files) -> None:
    """Call this to make a folder with files; raises `Exists` and OSError, and then it made none."""
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}.greenroom-new-"
    _sweep(folder.parent, prefix)
    with _beside(folder.parent, prefix) as scratch:
        made = scratch / "made"
        _write(made, files)
        try:
            made.rename(folder)  # takes the place of an empty folder, of no other
        except OSError:
            check_free(folder)
            raise
        _sync(folder.parent)


def check_free(folder: Path) -> None:
    """Call this to see that nothing is in a folder yet; raises `Exists`."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Exists([folder.name])
    if folder.is_dir() and (inside := sorted(one.name for one in folder.iterdir())):
        raise Exists([f"{folder.name}/{one}" for one in inside])


def change_program(folder: Path, new: Files, instead: Files, before: Files) -> None:
    """Call this to add files to a program, and give others a new text, all or none.

    `before` is what those others were when they were read. Raises `Exists`, `Changed`, `Linked` and
    OSError.
    """
    with _beside(folder, ".greenroom-new-") as scratch:
        if there := [path for path in new if os.path.lexists(folder / path)]:
            raise Exists(there)
        for path, text in before.items():
            if (folder / path).is_symlink():
                raise Linked(path)
            if text_in(folder / path) != text:
                raise Changed(path)
        _write(scratch / "made", {**new, **_with_their_ends(folder, instead)})
        for path in instead:
            shutil.copymode(folder / path, scratch / "made" / path)
        _write_list(scratch, _List(tuple(new), tuple(instead)))
        _carry_out(folder, scratch)


def text_in(file: Path) -> str:
    """Call this for the text of a file, whatever its lines end with and whatever the locale is."""
    return file.read_text("utf-8")


def _with_their_ends(folder: Path, instead: Files) -> Files:
    """Lines end as they did: else somebody's whole file is another to them."""
    return {
        path: text.replace("\n", "\r\n")
        if isinstance(text, str) and b"\r\n" in (folder / path).read_bytes()
        else text
        for path, text in instead.items()
    }


def finish(folder: Path) -> bool:
    """Call this before a change: makes whole what a killed process had begun; tells if it did."""
    done = False
    for scratch in sorted(folder.glob(".greenroom-new-*")):
        if not scratch.is_dir():
            continue
        with _locked(scratch) as is_ours:
            if is_ours:
                if (scratch / _LIST).is_file():
                    _carry_out(folder, scratch)
                    done = True
                shutil.rmtree(scratch, ignore_errors=True)
    return done


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Call this around a change of a program: one at a time, another waits."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _carry_out(folder: Path, scratch: Path) -> None:
    """Put each file into its place; what is there already was put there before."""
    wanted = msgspec.json.decode((scratch / _LIST).read_bytes(), type=_List)
    for path in wanted.new:
        source, target = scratch / "made" / path, folder / path
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _place(source, target)
    for path in wanted.instead:
        source = scratch / "made" / path
        if source.exists():
            source.replace(folder / path)
    (scratch / _LIST).unlink()
    _sync(folder)


def _place(source: Path, target: Path) -> None:
    """Give a file its place, unless somebody has put another one there meanwhile."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        source.rename(target)  # a disk without links
        return
    source.unlink()


def _write(folder: Path, files: Files) -> None:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as opened:
            opened.write(content.encode() if isinstance(content, str) else content)
            opened.flush()
            os.fsync(opened.fileno())


def _write_list(scratch: Path, wanted: _List) -> None:
    """Written under another name first: it is there as a whole, or not."""
    _write(scratch, {"list.part": msgspec.json.encode(wanted)})
    (scratch / "list.part").rename(scratch / _LIST)
    _sync(scratch)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _beside(folder: Path, prefix: str) -> Iterator[Path]:
    """Have a folder for the time of a change; whatever ends it, the folder goes.

    But for one thing: what is listed and could not be put into its place stays, for `finish`.
    """
    while True:
        scratch = Path(mkdtemp(prefix=prefix, dir=folder))
        with _locked(scratch) as is_ours:
            # Between the two lines above another process may have taken it for one that was left.
            if not is_ours or not scratch.exists():
                continue
            try:
                yield scratch
                return
            finally:
                if not (scratch / _LIST).exists():
                    shutil.rmtree(scratch, ignore_errors=True)


def _sweep(folder: Path, prefix: str) -> None:
    """Remove what killed processes have left beside a program that they did not make."""
    for scratch in folder.glob(f"{prefix}*"):
        if scratch.is_dir() and not scratch.is_symlink():
            with _locked(scratch) as is_ours:
                if is_ours:
                    shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False  # whoever made it has removed it
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
