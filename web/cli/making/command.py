"""`greenroom new` and `greenroom upgrade`, as they are typed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from typing import TypeVar

import trio

from web.cli.answering import Teller
from web.cli.making import filling, naming, origin, recording, writing
from web.cli.making.words import APP, KINDS, OPTIONS, Files, Part, Recipe
from web.observability import Code, CommandFailed

T = TypeVar("T")

# Who asked for one part knows the rest by these.
LISTED_MAX = 20
_NO_PROGRAM = "Go into the folder of one that greenroom new app has made"


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    here = Path.cwd()
    if parsed.command == "upgrade":
        await trio.to_thread.run_sync(_told, lambda: _upgrade(here, teller))
        return Code.DONE
    if parsed.list:
        rows = [{"kind": one, "makes": filling.read_manifest(one).words} for one in KINDS]
        teller.rows(rows, "there is none")
        return Code.DONE
    await _complete(parsed, here)
    work = _new_app if parsed.kind == APP else _new_part
    await trio.to_thread.run_sync(_told, lambda: work(parsed, here, teller))
    return Code.DONE


def _told(work: Callable[[], T]) -> T:
    """Do something, and say what went wrong as a command does."""
    try:
        return work()
    except writing.Exists as error:
        raise CommandFailed(
            Code.REFUSED,
            f"nothing was written: {_some(error.files)} "
            f"{'is' if len(error.files) == 1 else 'are'} there already",
            "Choose another name, or move what is there",
        ) from error
    except writing.Linked as error:
        hint = "Put the file itself there, and try again"
        raise CommandFailed(Code.REFUSED, f"nothing was written: {error}", hint) from error
    except writing.Changed as error:
        raise CommandFailed(Code.REFUSED, f"nothing was written: {error}", "Try again") from error
    except filling.MarkMissing as error:
        hint = "Put that line where such parts are to stand, and try again"
        raise CommandFailed(Code.REFUSED, f"nothing was written: {error}", hint) from error
    except filling.NoPython as error:
        raise CommandFailed(
            Code.REFUSED, f"nothing was written: {error}", "Mend it, and try again"
        ) from error
    except recording.RecordBroken as error:
        hint = "Take it from an earlier commit"
        raise CommandFailed(Code.REFUSED, f"nothing was done: {error}", hint) from error
    except origin.NoWheel as error:
        raise CommandFailed(Code.FAILED, f"nothing was written: {error}") from error
    except OSError as error:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        words = f"nothing was written: {where}{error.strerror or error}"
        raise CommandFailed(Code.FAILED, words, "See that there is room, and a right to") from error


def _some(files: Sequence[str]) -> str:
    more = len(files) - LISTED_MAX
    return ", ".join(files[:LISTED_MAX]) + (f" and {more} more" if more > 0 else "")


# What was typed, and what is asked for.


async def _complete(parsed: argparse.Namespace, here: Path) -> None:
    """Ask for what is missing, on a terminal; elsewhere `CommandFailed` says what it is."""
    if parsed.kind is None:
        parsed.kind = await _ask("what to make", f"What is to be made ({', '.join(KINDS)})?")
    if parsed.kind not in KINDS:
        raise CommandFailed(Code.USAGE, f"there is no {parsed.kind!r:.60} to make")
    is_app = parsed.kind == APP
    wrong = "--of" if is_app and parsed.of else ""
    if not is_app and (parsed.saga or parsed.bus or parsed.web or parsed.vendor):
        wrong = "--saga, --bus, --web and --vendor"
    if parsed.of and parsed.kind != "projection":
        wrong = "--of"
    if wrong:
        verb = "are" if "and" in wrong else "is"
        raise CommandFailed(
            Code.USAGE, f"{wrong} {verb} not for {parsed.kind}; nothing was written"
        )
    if parsed.name is None:
        parsed.name = await _ask("NAME", f"What is the {parsed.kind} called?")
    _check(parsed.kind, parsed.name)
    if parsed.kind == "projection" and not parsed.of:
        known = _aggregates(here)
        if len(known) == 1:
            parsed.of = known[0]
        else:
            parsed.of = await _ask("--of AGGREGATE", f"Of which aggregate ({', '.join(known)})?")


async def _ask(missing: str, question: str) -> str:
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise CommandFailed(
            Code.USAGE, f"{missing} is missing; nothing was written", "See greenroom new --help"
        )
    sys.stderr.write(f"{question} ")
    sys.stderr.flush()
    said: str = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    if not said.strip():
        raise CommandFailed(Code.USAGE, f"{missing} is missing; nothing was written")
    return said.strip()


def _check(kind: str, name: str) -> None:
    problem = naming.problem_of(kind, name)
    if problem:
        raise CommandFailed(Code.USAGE, f"{problem}; nothing was written", "Choose another name")


def _aggregates(here: Path) -> list[str]:
    _, recipe, _ = _program(here)
    return [one.name for one in recipe.parts if one.kind == "aggregate"]


# What is made.


def _new_app(parsed: argparse.Namespace, here: Path, teller: Teller) -> None:
    folder = here / parsed.name
    writing.check_free(folder)
    given = {"saga": parsed.saga, "kafka": parsed.bus == "kafka", "web": parsed.web}
    options = frozenset(one for one in OPTIONS if given[one])
    extras = {"kafka"} & options
    needs = origin.requirement(extras, is_vendored=parsed.vendor)
    recipe = Recipe(parsed.name, options, filling.first_parts(options), needs)
    texts = filling.fill(recipe)
    files: dict[str, str | bytes] = {**texts, recording.RECORD: recording.written(recipe, texts)}
    if parsed.dry_run:
        _show(parsed.name, {}, files, teller)
        return
    if parsed.vendor:
        name, content = origin.wheel()
        files[f"vendor/{name}"] = content
    writing.make_program(folder, files)
    _report(parsed.name, files, teller)
    teller.note(f"made {parsed.name}; next: cd {parsed.name} && make test")


def _new_part(parsed: argparse.Namespace, here: Path, teller: Teller) -> None:
    folder, _, _ = _program(here)
    with writing.alone(folder):
        if writing.finish(folder):
            teller.note("made whole what an earlier greenroom new had begun")
        folder, recipe, kept = _program(here)
        name = naming.module_name(parsed.name)
        part = Part(parsed.kind, name, naming.module_name(parsed.of) if parsed.of else "")
        found = filling.registered_in(part.kind, recipe.package)
        if f"{recipe.package}/{part.name}.py" in found:
            raise writing.Exists([f"{recipe.package}/{part.name}.py"])
        before = {path: _text_of(folder, path) for path in sorted(found)}
        after = filling.with_part(recipe, part, before)
        # The same on what the record has: there nobody has written anything else.
        pristine = filling.with_part(recipe, part, kept)
        record = recording.written(recipe.with_part(part), pristine)
        new = {path: text for path, text in after.items() if path not in before}
        instead = {path: after[path] for path in before} | {recording.RECORD: record}
        before |= {recording.RECORD: _text_of(folder, recording.RECORD)}
        _check_part(folder, recipe, part, new)
        _check_names(part, before, after)
        if parsed.dry_run:
            _show(folder.name, before, {**new, **instead}, teller)
            return
        writing.change_program(folder, new, instead, before)
    _report(folder.name, {**new, **instead}, teller)
    teller.note(f"made the {part.kind} {part.name}; next: make test")


def _check_part(folder: Path, recipe: Recipe, part: Part, new: Files) -> None:
    # As typed it was well; as a module it may be a keyword, such as of Class.
    _check(part.kind, part.name)
    if there := [path for path in new if os.path.lexists(folder / path)]:
        raise writing.Exists(there)
    # A module beside a folder of its name would hide one of the two.
    for path in (f"{recipe.package}/{part.name}", f"{recipe.package}/{part.name}.py"):
        if os.path.lexists(folder / path):
            raise writing.Exists([path])
    for path in new:
        tested, _, _ = path.removeprefix("tests/").removesuffix(".py").partition("/")
        other = f"tests/{tested}" if path == f"tests/{tested}.py" else f"tests/{tested}.py"
        if path.startswith("tests/") and os.path.lexists(folder / other):
            raise writing.Exists([other])
    if part.kind != "projection":
        return
    known = [one.name for one in recipe.parts if one.kind == "aggregate"]
    if part.of not in known:
        raise CommandFailed(
            Code.UNKNOWN,
            f"there is no aggregate {part.of!r} that greenroom new has made; nothing was written",
            f"There is {', '.join(known) or 'none'}",
        )


def _check_names(part: Part, before: Files, after: Mapping[str, str]) -> None:
    from supervision import Supervisor  # noqa: PLC0415  (what is only listed needs no runtime)

    texts = {path: text for path, text in before.items() if isinstance(text, str)}
    taken = naming.taken_by(part.name, frozenset(dir(Supervisor)), texts, after)
    if taken:
        raise CommandFailed(Code.USAGE, f"{taken}; nothing was written", "Choose another name")


def _program(here: Path) -> tuple[Path, Recipe, dict[str, str]]:
    folder = recording.find_program(here)
    if folder is None:
        raise CommandFailed(Code.UNKNOWN, f"{here} is in no program", _NO_PROGRAM)
    try:
        return folder, *recording.read(writing.text_in(folder / recording.RECORD))
    except UnicodeDecodeError as error:
        raise recording.RecordBroken(1) from error


def _text_of(folder: Path, path: str) -> str:
    try:
        return writing.text_in(folder / path)
    except UnicodeDecodeError as error:
        raise CommandFailed(
            Code.REFUSED, f"nothing was written: {path} is no text in UTF-8", "Store it as one"
        ) from error
    except FileNotFoundError as error:
        raise CommandFailed(
            Code.REFUSED,
            f"nothing was written: {path} is not there, where a part is registered",
            "Take it from an earlier commit",
        ) from error


# What is told.


def _report(name: str, files: Files, teller: Teller) -> None:
    if teller.is_json:
        teller.rows([{"file": f"{name}/{path}"} for path in sorted(files)], "")
    else:
        teller.text("\n".join(f"{name}/{path}" for path in sorted(files)))


def _show(name: str, before: Files, after: Files, teller: Teller) -> None:
    """The tree, then what is written as a difference; the record is not for people."""
    _report(name, after, teller)
    shown = {path: text for path, text in after.items() if path != recording.RECORD}
    for path in sorted(shown):
        old, new = before.get(path, ""), shown[path]
        if isinstance(old, str) and isinstance(new, str) and not teller.is_json:
            teller.patch("".join(_difference(path, old, new)))
    teller.note("nothing was written")


def _difference(path: str, old: str, new: str) -> Iterator[str]:
    """As `git apply` and `patch -p1` take it; empty where both are the same."""
    source, target = f"a/{path}" if old else "/dev/null", f"b/{path}" if new else "/dev/null"
    return unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), source, target
    )


def _upgrade(here: Path, teller: Teller) -> None:
    folder, recipe, kept = _program(here)
    needs = origin.requirement({"kafka"} & recipe.options, is_vendored=(folder / "vendor").is_dir())
    # What somebody has removed is not brought back.
    gone = {path for path in kept if not (folder / path).exists()}
    today = replace(recipe, requirement=needs, left_out=recipe.left_out | gone)
    texts = {path: text for path, text in filling.fill(today).items() if path not in today.left_out}
    patches = {
        path: "".join(_difference(path, kept.get(path, ""), texts.get(path, "")))
        for path in sorted({*texts, *kept} - gone)
    }
    patches = {path: patch for path, patch in patches.items() if patch}
    if not patches:
        teller.note("these are the newest templates")
        return
    before, after = _text_of(folder, recording.RECORD), recording.written(today, texts)
    patches[recording.RECORD] = "".join(_difference(recording.RECORD, before, after))
    if teller.is_json:
        teller.rows([{"file": path, "patch": patch} for path, patch in patches.items()], "")
    else:
        teller.patch("".join(patches.values()))
    touched = [
        path
        for path in sorted(texts)
        if texts[path] != kept.get(path)
        and (folder / path).exists()
        and (folder / path).read_bytes() != kept.get(path, "").encode()
    ]
    if touched:
        teller.note(f"changed here too, look at these by hand: {_some(touched)}")
    teller.note("nothing was written; git apply --reject takes it from a file")
