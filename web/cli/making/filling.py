"""From a template to texts: the files of a program or a part, and the lines that register it.

A template is a folder with a manifest, and the files it names, each with `.jinja` behind its
name so that no tool takes it for a program. In the manifest:

- `[[file]]`: `from` the folder `to` a path of the program; `when` an option is given
- `[[import]]`: `what` of which `module` a `file` of the program needs
- `[[line]]`: `text` that is put above the `mark` of a `file`, `# greenroom new: MARK`
- `[[part]]`: of the program's own: a part that it begins with

Rule 1: the same recipe gives the same texts. Rule 2: no text depends on how long a name is but by
`imported` and `union`, which write what the formatter would; so no formatter is needed here.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from textwrap import indent

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from web.cli.making.words import APP, SPELT, Part, Recipe, class_name

TEMPLATES = Path(__file__).parents[1] / "templates"
LINE_CHARS_MAX = 100
MARK = "# greenroom new: "


class MarkMissing(Exception):
    """Raised when a file of a program has no place any more where a part is registered.

    Nothing was written. Put the line `mark` where parts of its kind are to stand, and try again.
    """

    def __init__(self, file: str, mark: str) -> None:
        super().__init__(f"{file} has no line {mark!r} any more, above which a part is registered")
        self.file, self.mark = file, mark


class NoPython(Exception):
    """Raised when a file in which a part is registered cannot be read, as somebody is at it.

    Nothing was written. Make it one that Python reads, and try again.
    """

    def __init__(self, file: str, line: int) -> None:
        super().__init__(f"{file} is no Python at line {line}")
        self.file, self.line = file, line


class FromTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    from_: str
    to: str
    when: str = ""


class Import(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    module: str
    what: str


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    mark: str
    text: str


class FirstPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    template: str
    name: str
    of: str = ""
    when: str = ""


class Manifest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"imports": "import"}
):
    """What a template says of itself: in a few words what it makes, and what goes where."""

    words: str
    needs_aggregate: bool = False
    file: tuple[FromTo, ...] = ()
    imports: tuple[Import, ...] = ()
    line: tuple[Line, ...] = ()
    part: tuple[FirstPart, ...] = ()


def read_manifest(kind: str, templates: Path = TEMPLATES) -> Manifest:
    """Call this for the manifest of a template."""
    found = tomllib.loads((templates / kind / "manifest.toml").read_text("utf-8"))
    return msgspec.convert(found, Manifest)


def first_parts(options: frozenset[str], templates: Path = TEMPLATES) -> tuple[Part, ...]:
    """Call this for the parts that a new program begins with."""
    return tuple(
        Part(one.template, one.name, one.of)
        for one in read_manifest(APP, templates).part
        if not one.when or one.when in options
    )


def fill(recipe: Recipe, templates: Path = TEMPLATES) -> dict[str, str]:
    """Call this for all files of a program, as they are when nobody has touched them."""
    made = _files(APP, _program_words(recipe), recipe, templates)
    for part in recipe.parts:
        made = with_part(recipe, part, made, templates)
    return made


def with_part(
    recipe: Recipe, part: Part, texts: Mapping[str, str], templates: Path = TEMPLATES
) -> dict[str, str]:
    """Call this for the files of a program with a part more: its own, and those it stands in.

    Raises `MarkMissing` and `NoPython`.
    """
    words = _part_words(recipe, part)
    manifest = read_manifest(part.kind, templates)
    made = {**texts, **_files(part.kind, words, recipe, templates)}
    jinja = _jinja(templates)
    for one in manifest.imports:
        file, module, what = (
            jinja.from_string(text).render(words) for text in (one.file, one.module, one.what)
        )
        made[file] = _with_import(file, made[file], recipe.package, (module, what))
    for line in manifest.line:
        file, text = (jinja.from_string(one).render(words) for one in (line.file, line.text))
        made[file] = _with_line(file, made[file], MARK + line.mark, text)
    return made


def registered_in(kind: str, package: str, templates: Path = TEMPLATES) -> set[str]:
    """Call this for the files of a program in which a part of this kind is registered."""
    manifest = read_manifest(kind, templates)
    files = [one.file for one in manifest.imports] + [one.file for one in manifest.line]
    return {file.replace("{{ package }}", package) for file in files}


def _files(
    kind: str, words: Mapping[str, object], recipe: Recipe, templates: Path
) -> dict[str, str]:
    jinja = _jinja(templates)
    return {
        jinja.from_string(one.to).render(words): jinja.get_template(
            f"{kind}/{one.from_}.jinja"
        ).render(words)
        for one in read_manifest(kind, templates).file
        if not one.when or one.when in recipe.options
    }


def _program_words(recipe: Recipe) -> Mapping[str, object]:
    return {
        "package": recipe.package,
        "distribution": recipe.package.lower().replace("_", "-"),
        "requirement": recipe.requirement,
        "options": "".join(f" {SPELT[one]}" for one in SPELT if one in recipe.options),
        **{one: one in recipe.options for one in SPELT},
    }


def _part_words(recipe: Recipe, part: Part) -> Mapping[str, object]:
    return {
        "package": recipe.package,
        "name": part.name,
        "Name": class_name(part.name),
        "of": part.of,
        "Of": class_name(part.of),
    }


@lru_cache(maxsize=2)
def _jinja(templates: Path) -> Environment:
    # Programs, no pages: nothing is escaped.
    jinja = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals.update(imported=imported, imports=imports, union=union)
    return jinja


# What a formatter would write.


def imports(wanted: Mapping[str, Iterable[str]]) -> str:
    """Call this in a template for import lines, in their order."""
    return "\n".join(imported(one, wanted[one]) for one in sorted(wanted, key=_natural))


def imported(module: str, names: Iterable[str]) -> str:
    """Call this in a template for one import line, its names in their order."""
    found = sorted(set(names), key=_member)
    line = f"from {module} import {', '.join(found)}"
    if len(line) <= LINE_CHARS_MAX:
        return line
    return "\n".join([f"from {module} import (", *(f"    {one}," for one in found), ")"])


def union(name: str, members: Sequence[str]) -> str:
    """Call this in a template for an alias of several classes."""
    line = f"{name} = {' | '.join(members)}"
    if len(line) <= LINE_CHARS_MAX:
        return line
    inner = f"    {' | '.join(members)}"
    if len(inner) <= LINE_CHARS_MAX:
        return f"{name} = (\n{inner}\n)"
    return "\n".join(
        [f"{name} = (", f"    {members[0]}", *(f"    | {one}" for one in members[1:]), ")"]
    )


def _member(name: str) -> tuple[int, tuple[tuple[int, int | str], ...]]:
    """Constants first, then classes, then functions."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[0].isupper() else 2
    return kind, _natural(name)


def _natural(name: str) -> tuple[tuple[int, int | str], ...]:
    pieces = re.findall(r"\d+|\D", name.lower())
    return tuple((0, int(one)) if one.isdigit() else (1, one) for one in pieces)


# Where a part is registered.


def _with_line(file: str, text: str, mark: str, added: str) -> str:
    lines = text.splitlines(keepends=True)
    at = next((n for n, line in enumerate(lines) if line.strip() == mark), None)
    if at is None:
        raise MarkMissing(file, mark)
    margin = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    return "".join([*lines[:at], indent(added.lstrip("\n"), margin), *lines[at:]])


def _with_import(file: str, text: str, package: str, wanted: tuple[str, str]) -> str:
    """Put an import among those of the program's own modules, in their order."""
    module, what = wanted
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise NoPython(file, error.lineno or 1) from error
    ours = [
        node
        for node in body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}.")
    ]
    lines = text.splitlines(keepends=True)
    for node in ours:
        if node.module == module and not any(one.asname for one in node.names):
            names = [*(one.name for one in node.names), what]
            if "#" in "".join(lines[node.lineno - 1 : node.end_lineno]):
                continue  # a comment of somebody's, which belongs to its line
            lines[node.lineno - 1 : node.end_lineno] = [f"{imported(module, names)}\n"]
            return "".join(lines)
    behind = [node for node in ours if _natural(node.module or "") < _natural(module)]
    if behind or ours:
        at = (behind[-1].end_lineno or 0) if behind else ours[0].lineno - 1
        return "".join([*lines[:at], f"{imported(module, [what])}\n", *lines[at:]])
    at = _end_of_head(body)
    return "".join([*lines[:at], "\n" if at else "", f"{imported(module, [what])}\n", *lines[at:]])


def _end_of_head(body: Sequence[ast.stmt]) -> int:
    """The line where the docstring and the imports of a file end."""
    at = 0
    for n, node in enumerate(body):
        is_docstring = (
            n == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        )
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            at = node.end_lineno or 0
    return at
