"""The API reference, written from signatures and docstrings: `python -m tests.docs.api`.

`docs/reference/api/` has one page a package, which leads to a page for each of its subjects. Every
name of its `__all__` stands on one of these, under the subject that `PAGES` gives it, as the source
has it: nothing is imported, so the text is the same whatever Python runs this. What is shown of a
class:

- its head with its fields, and the comments beside them; of an error what it carries,
- what its `__init__` sets and says something about, in a string below,
- properties and methods that have no underscore, and special ones with a docstring; those of
  bases that are not public included.

Not shown is what the runtime itself calls ("Called ..."), save in a protocol, where the reader
writes it. A method without a docstring is one that its base describes, or the port that the class
says it is ("The port `X` ..."); without such a one it is a problem.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent, indent
from typing import Final, TypeAlias, TypeGuard

from tests.docs.api_subjects import MADE_BY_US, PAGES
from tests.docs.api_words import Page, Subject

ROOT = Path(__file__).parents[2]
FOLDER = Path("docs/reference/api")
COMMAND = "python -m tests.docs.api"
OURS = ("actors", "supervision", "storage", "web")

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Statement: TypeAlias = ast.Assign | ast.AnnAssign

_MARKS: Final = re.compile(r"\s*# (?:noqa|type: ignore|pyright: ignore).*$", re.MULTILINE)
# A name between backticks, or a class in a sentence: two humps, for one is a word of English.
_SPAN: Final = re.compile(
    r"`(?P<name>[A-Za-z_][\w.]*)(?P<call>\([^`]*\))?`|(?<![`\w.])(?P<word>(?:[A-Z][a-z]+){2,})\b"
)
_DEFAULT: Final = re.compile(r"= (_?[A-Z][A-Z0-9_]+)\b(?!\.)")
_VALUE_MAX: Final = 20
_WORDS: Final = "Words in signatures"
_WORD: Final = re.compile(r"(?<![.\w])[A-Z]\w+")
_NO_WORD: Final = re.compile(r"\"[^\"\n]*\"|#.*")
_IMPORT: Final = re.compile(
    rf"^ *from ((?:{'|'.join(OURS)})\b[\w.]*) import (\([^)]*\)|[^\n(]+)", re.MULTILINE
)
_PORT: Final = re.compile(r"^(?:The|What of the) ports? `(\w+)`(?: and `(\w+)`)?")
_PROTOCOL: Final = re.compile(r"^class (\w+)\(Protocol\b", re.MULTILINE)
_FENCE: Final = re.compile(r"^```\w*.*?^```$|^ {4,}.*?$", re.MULTILINE | re.DOTALL)


class Module:
    """One source file: what it defines and imports, and its text."""

    def __init__(self, name: str) -> None:
        self.name = name
        path = ROOT / name.replace(".", "/")
        file = path.with_suffix(".py")
        file = file if file.exists() else path / "__init__.py"
        # A folder without one has nothing but modules.
        self.text = file.read_text() if file.exists() else ""
        self.lines = self.text.splitlines()
        self.tree = ast.parse(self.text)
        self.defined: dict[str, ast.stmt] = {}
        self.described: dict[str, str] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        self.used: set[str] = set()  # Words in what was shown.
        for at, node in enumerate(self.tree.body):
            if isinstance(node, ast.ImportFrom) and node.module:
                for one in node.names:
                    self.imported[one.asname or one.name] = (node.module, one.name)
            for name_ in _names_of(node):
                # The last of several is the implementation behind its overloads.
                self.defined[name_] = node
                self.described[name_] = _text_below(self.tree.body, at) or self.comment(node)

    def comment(self, node: ast.stmt) -> str:
        """The comment right above a statement."""
        found: list[str] = []
        for line in reversed(self.lines[: node.lineno - 1]):
            if not line.strip().startswith("# "):
                break
            found.insert(0, line.strip().removeprefix("# "))
        return "\n".join(found)

    def source(self, node: ast.stmt, *, comments: bool) -> str:
        """A statement as it stands, dedented; with the comments above it if they are wanted."""
        first = node.lineno - 1
        while comments and first and self.lines[first - 1].strip().startswith("# "):
            first -= 1
        return self._shown(self.lines[first : node.end_lineno])

    def head(self, node: Function | ast.ClassDef) -> str:
        """A `def` or `class` up to its body, with its decorators, dedented."""
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)]) - 1
        body = node.body[0]
        lines = self.lines[first : body.lineno]
        if body.lineno == node.lineno or lines[-1][: body.col_offset].strip():
            lines[-1] = lines[-1][: body.col_offset]
        else:
            lines.pop()
            while lines[-1].strip().startswith("#"):
                lines.pop()
        return self._shown(lines).removesuffix(":")

    def _shown(self, lines: Sequence[str]) -> str:
        """Source as a reader needs it: without marks for our tools, and with values for names."""
        text = _MARKS.sub("", dedent("\n".join(lines))).rstrip()
        self.used.update(_WORD.findall(_NO_WORD.sub("", text)))
        return _DEFAULT.sub(lambda one: f"= {self._value(one[1])}", text)

    def _value(self, name: str) -> str:
        """What stands behind the name of a constant, when it is short enough to say more."""
        found = find(self.name, name)
        value = getattr(found.node, "value", None) if found else None
        if not isinstance(value, ast.expr):
            return name
        text = ast.unparse(value)
        return text if len(text) <= _VALUE_MAX else name


def _names_of(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.Assign():
            parts = [part for one in node.targets for part in getattr(one, "elts", [one])]
            return [one.id for one in parts if isinstance(one, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _text_below(body: Sequence[ast.stmt], at: int) -> str:
    """The string below a statement, where an attribute or a constant is described."""
    match body[at + 1 : at + 2]:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return dedent(text).strip()
    return ""


@dataclass(frozen=True, slots=True)
class Found:
    """Something public, where it is defined."""

    module: Module
    name: str

    @property
    def node(self) -> ast.stmt:
        return self.module.defined[self.name]

    def bases(self) -> Iterator[Found]:
        node = self.node
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            named = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(named, ast.Name) and (found := find(self.module.name, named.id)):
                yield found


_read: Final[dict[str, Module]] = {}


def module(name: str) -> Module:
    """Call this for a module of ours; each is read once."""
    if name not in _read:
        _read[name] = Module(name)
    return _read[name]


def forget() -> None:
    """Call this when the files may be others."""
    _read.clear()
    known_ports.cache_clear()
    find.cache_clear()


@cache
def find(where: str, name: str) -> Found | None:
    """Call this to find what a module means by a name; None when it is not one of ours."""
    looked = module(where)
    if name in looked.defined:
        return Found(looked, name)
    source, there = looked.imported.get(name, ("", ""))
    if source.partition(".")[0] not in OURS:
        return None
    # A module that is imported as a whole is no name.
    return None if is_module(f"{source}.{there}") else find(source, there)


def is_module(name: str) -> bool:
    """Call this to learn whether a dotted name is a file or a folder of ours."""
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports_of(text: str) -> Iterator[tuple[str, str]]:
    """Call this for what a text imports of ours: module and name."""
    for where, names in _IMPORT.findall(text):
        for name in re.sub("#.*", "", names).strip("()").split(","):
            if name.strip():
                yield where, name.split()[0]


def public_names(package: str) -> list[str]:
    """Call this for the `__all__` of a package."""
    value = module(package).defined["__all__"]
    assert isinstance(value, ast.Assign)
    names = ast.literal_eval(value.value)
    assert isinstance(names, list)
    return [str(name) for name in names]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One subject of a package, which is a page by itself."""

    page: Page
    subject: Subject

    @property
    def file(self) -> str:
        slug = re.sub(r"[^a-z]+", "-", self.subject.title.lower()).strip("-")
        return f"{self.page.file.removesuffix('.md')}/{slug}.md"

    def find(self, name: str) -> Found | None:
        """Call this for a name as the subject has it: with its module, or of the page's package."""
        where, _, last = name.rpartition(".")
        return find(where or self.page.package, last)


class Reference:
    """All pages together: who stands where, and what of it is shown."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self.pages = pages
        self.sheets = [Sheet(page, subject) for page in pages for subject in _subjects(page)]
        self.problems: list[str] = []
        self.place: dict[str, list[str]] = {}  # The files that have a name, by name.
        self.documented: dict[int, str] = {}  # A file by what is documented there.
        self.inherited: dict[tuple[str, int, str], str] = {}  # Methods of hidden bases: who first.
        self.anchors: dict[tuple[str, str], str] = {}
        for sheet in self.sheets:
            for name in sheet.subject.names:
                self.place.setdefault(_last(name), []).append(sheet.file)
                if found := sheet.find(name):
                    self.documented.setdefault(id(found.node), sheet.file)
        for sheet in self.sheets:  # Once for the anchors, which links need.
            self.text(sheet)

    def files(self) -> dict[str, str]:
        """Call this for all pages as they shall be, by their names in the folder."""
        texts = {page.file: self.front(page) for page in self.pages}
        return texts | {sheet.file: self.text(sheet) for sheet in self.sheets}

    def has(self, where: str, name: str) -> bool:
        """Call this to learn whether what a module calls so stands on a page."""
        found = find(where, name)
        return found is not None and id(found.node) in self.documented

    def check(self) -> Iterator[str]:
        """Call this to list what a person has to mend, in `PAGES` or in a docstring."""
        for page in self.pages:
            named = Counter(
                name if "." in name else f"{page.package}.{name}"
                for subject in page.subjects
                for name in subject.names
            )
            public = {f"{one}.{name}" for one in page.whole for name in public_names(one)}
            where = f"PAGES in tests/docs/api_subjects.py: {page.package}"
            yield from (f"{where} has no subject for {n}" for n in sorted(public - set(named)))
            yield from (f"{where} names {n} twice" for n, count in named.items() if count > 1)
            for name in set(named) - public:
                package = name.rpartition(".")[0]
                if package in page.whole or find(package, _last(name)) is None:
                    yield f"{where} names {name}, which is not public"
        known = set(self.place)
        yield from (f"MADE_BY_US names {n}, which is on no page" for n in MADE_BY_US - known)
        for sheet in self.sheets:
            self.text(sheet)
        yield from dict.fromkeys(self.problems)
        yield from self._unexplained()

    def _unexplained(self) -> Iterator[str]:
        """Names of types that a reader meets in a signature and finds on no page."""
        met = {find(name, word) for name, looked in list(_read.items()) for word in looked.used}
        for found in sorted(met - {None}, key=str):
            if found and _is_type(found.node) and id(found.node) not in self.documented:
                what = f"{found.module.name}.{found.name}"
                yield f"{what} stands in a signature: add it to `words` of the page"

    def front(self, page: Page) -> str:
        """Call this for the page of a package: its subjects, and which names are where."""
        lines = ["| subject | names |", "|---|---|"]
        mine = [sheet for sheet in self.sheets if sheet.page is page]
        for sheet in mine:
            names = ", ".join(
                f"[`{_last(name)}`]({sheet.file}#{self.anchors.get((sheet.file, _last(name)))})"
                for name in sheet.subject.names
            )
            lines.append(f"| [{sheet.subject.title}]({sheet.file}) | {names} |")
        following = f"Next: [{_small(mine[0].subject.title)}]({mine[0].file})."
        return "\n\n".join([f"# {page.title}", page.intro, "\n".join(lines), following]) + "\n"

    def text(self, sheet: Sheet) -> str:
        """Call this for the page of a subject as it shall be."""
        page, subject = sheet.page, sheet.subject
        up = f"{page.package}: {_small(subject.title)}"
        intro = f"Part of [{page.title.partition(':')[0]}](../{page.file})."
        parts = [f"# {up}", f"{intro} {subject.intro}".rstrip()]
        for name in subject.names:
            parts += self._entry(sheet, name)
        self._note_anchors(sheet, [part for part in parts if part.startswith("#")])
        return "\n\n".join([*parts, self._next(sheet)]) + "\n"

    def _next(self, sheet: Sheet) -> str:
        mine = [one for one in self.sheets if one.page is sheet.page]
        after = mine[mine.index(sheet) + 1 :]
        if not after:
            return f"Next: [all names](../{sheet.page.file})."
        return f"Next: [{_small(after[0].subject.title)}](../{after[0].file})."

    def _note_anchors(self, sheet: Sheet, headings: Sequence[str]) -> None:
        """As a code host makes them: equal ones, also in capitals only, are numbered."""
        taken: Counter[str] = Counter()
        for heading in headings:
            marks, _, title = heading.partition(" ")
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
            if marks != "#":
                count = taken[anchor]
                self.anchors[sheet.file, title] = f"{anchor}-{count}" if count else anchor
            taken[anchor] += 1

    def _entry(self, sheet: Sheet, name: str) -> Iterator[str]:
        found = sheet.find(name)
        where, _, name = name.rpartition(".")
        if found is None:
            self.problems.append(f"{where or sheet.page.package}.{name} is defined nowhere")
            return
        yield f"## {name}"
        if where and sheet.subject.title != _WORDS:
            yield f"`from {where} import {name}`"
        match found.node:
            case ast.ClassDef():
                yield from self._class(sheet, found)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield _fenced(_signature(found.module, found.module.tree.body, found.name))
                yield self._doc(sheet, name, ast.get_docstring(found.node) or "")
            case _:
                yield _fenced(found.module.source(found.node, comments=False))
                yield self._doc(sheet, name, found.module.described[found.name])

    def _class(self, sheet: Sheet, found: Found) -> Iterator[str]:
        node = found.node
        assert isinstance(node, ast.ClassDef)
        lines = [found.module.head(node) + ":", *(self._fields(found))]
        if (start := _method(node, "__init__")) and found.name not in MADE_BY_US:
            lines.append(indent(found.module.head(start), "    "))
        yield _fenced("\n".join(lines).removesuffix(":"))
        yield self._doc(sheet, found.name, ast.get_docstring(node) or "")
        if shown := "\n".join(self._attributes(sheet, found)):
            yield shown
        also: list[str] = []
        yield from self._methods(sheet, found, set(), found.name, also)
        if also:
            yield f"Also {', '.join(also)}."
        above = (*found.bases(), *_ports(found))
        more = [self._link_to(sheet, one) for one in above if self._is_public(one)]
        more += [
            f"`{one.module.name}.{one.name}`" for one in _ports(found) if not self._is_public(one)
        ]
        if more:
            yield f"And what {' and '.join(more)} {'has' if len(more) == 1 else 'have'}."

    def _link_to(self, sheet: Sheet, found: Found) -> str:
        """A link to the very thing: two packages may have something of one name."""
        file = self.documented[id(found.node)]
        anchor = self.anchors.get((file, found.name))
        return f"[`{found.name}`]({_way(sheet.file, file)}#{anchor})"

    def _is_public(self, found: Found) -> bool:
        return id(found.node) in self.documented

    def _fields(self, found: Found) -> Iterator[str]:
        for base in found.bases():
            if not self._is_public(base):
                yield from self._fields(base)
        assert isinstance(found.node, ast.ClassDef)
        for one in found.node.body:
            names = _names_of(one) if isinstance(one, Statement) else []
            if names and not names[0].startswith("_"):
                yield indent(found.module.source(one, comments=True), "    ")

    def _attributes(self, sheet: Sheet, found: Found) -> Iterator[str]:
        """Properties, and what `__init__` sets: with a string below; in an error all of it."""
        node = found.node
        assert isinstance(node, ast.ClassDef)
        for base in found.bases():
            if not self._is_public(base):
                own = {one.name for one in node.body if isinstance(one, Function)}
                lines = list(self._attributes(sheet, base))
                yield from (line for line in lines if not own & {line.split(":")[0][3:]})
        start = _method(node, "__init__")
        if start is not None:
            for name, kind, text in _set_in(start, found.module):
                if text or (_is_error(found) and not name.startswith("_")):
                    said = f": {self._linked(sheet, text, '')}" if text else ""
                    yield f"- `{name}{f': {kind}' if kind else ''}`{said}"
        for one in node.body:
            if _is_property(one) and not one.name.startswith("_"):
                kind = found.module.lines[one.lineno - 1].partition("->")[2].strip(" :")
                kind = _MARKS.sub("", kind).rstrip(":")
                text = self._doc(sheet, f"{found.name}.{one.name}", ast.get_docstring(one) or "")
                yield f"- `{one.name}: {kind}`: {indent(text, '  ').lstrip()}"

    def _methods(
        self, sheet: Sheet, found: Found, seen: set[str], shown_as: str, also: list[str]
    ) -> Iterator[str]:
        """The methods; those of a base of several stand at the first, `also` has the rest."""
        node, ports = found.node, _ports(found)
        assert isinstance(node, ast.ClassDef)
        for one in node.body:
            if not isinstance(one, Function) or _is_property(one) or one.name in seen:
                continue
            if one.name.startswith("test_"):
                continue  # What a suite asks of an engine is told as a whole.
            text = ast.get_docstring(_method(node, one.name) or one) or ""
            if one.name.startswith("_") and not (one.name.startswith("__") and text):
                continue
            seen.add(one.name)
            if text.startswith("Called ") and not _is_protocol(node):
                continue
            if not text and any(_has(base, one.name) for base in found.bases()):
                continue
            if any(_has(port, one.name) for port in ports):
                continue
            first = self.inherited.setdefault((sheet.file, id(found.node), one.name), shown_as)
            if first != shown_as:
                there = self._link(sheet, f"{first}.{one.name}", f"`{one.name}`")
                also.append(f"{there} as `{first}` has it")
                continue
            yield f"### {shown_as}.{one.name}"
            yield _fenced(_signature(found.module, node.body, one.name))
            yield self._doc(sheet, f"{shown_as}.{one.name}", text)
        for base in found.bases():
            if not self._is_public(base):
                yield from self._methods(sheet, base, seen, shown_as, also)

    def _doc(self, sheet: Sheet, what: str, text: str) -> str:
        if not text:
            self.problems.append(f"{sheet.page.package}.{what} has no docstring")
        text = re.sub(r"::$", ":", text, flags=re.MULTILINE).replace("```python", "```py")
        return self._linked(sheet, text, what)

    def _linked(self, sheet: Sheet, text: str, what: str) -> str:
        """The text with names that stand on these pages as links; programs stay as they are."""
        parts, end = [], 0
        for code in _FENCE.finditer(text):
            parts += [self._spans(sheet, text[end : code.start()], what), code[0]]
            end = code.end()
        return "".join([*parts, self._spans(sheet, text[end:], what)])

    def _spans(self, sheet: Sheet, text: str, what: str) -> str:
        def link(span: re.Match[str]) -> str:
            whole = span["name"] or span["word"]
            name = whole.partition(".")[0]
            # `message` is more often the argument than the decorator.
            is_word = name.islower() and "_" not in name and not span["call"]
            if name not in self.place or name == what.partition(".")[0] or is_word:
                return span[0]
            return self._link(sheet, whole, span[0])

        return _SPAN.sub(link, text)

    def _link(self, sheet: Sheet, name: str, text: str = "") -> str:
        whole, name = name, name.partition(".")[0]
        # What one page or one package has is meant before what another has of the same name.
        near = (sheet.file, sheet.file.partition("/")[0] + "/", "")
        file = next(file for one in near for file in self.place[name] if file.startswith(one))
        anchor = self.anchors.get((file, whole)) or self.anchors.get((file, name))
        return f"[{text or f'`{whole}`'}]({_way(sheet.file, file)}#{anchor})"


def _subjects(page: Page) -> tuple[Subject, ...]:
    """The subjects of a page, and behind them the words that its signatures use."""
    if not page.words:
        return page.subjects
    names = tuple(sorted(page.words, key=_last))
    intro = "Not imported from the front page; they say what may stand in signatures."
    return (*page.subjects, Subject(_WORDS, names, intro))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _small(title: str) -> str:
    return title[:1].lower() + title[1:]


def _way(here: str, there: str) -> str:
    """The link from one page to another; none when they are the same."""
    return "" if here == there else posixpath.relpath(there, posixpath.dirname(here))


def _is_type(node: ast.stmt) -> bool:
    """Whether it is a name for a type, or the options that a call takes."""
    match node:
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.ClassDef():
            return any("TypedDict" in ast.unparse(base) for base in node.bases)
    return False


def _fenced(text: str) -> str:
    return f"```py\n{text}\n```"


def _signature(where: Module, body: Sequence[ast.stmt], name: str) -> str:
    """The heads of a function: of its overloads, when it has some, else its own."""
    heads = [one for one in body if isinstance(one, Function) and one.name == name]
    return "\n".join(where.head(one) for one in (heads[:-1] or heads))


def _method(node: ast.ClassDef, name: str) -> Function | None:
    """The implementation of a method, which stands behind its overloads."""
    found = [one for one in node.body if isinstance(one, Function) and one.name == name]
    return found[-1] if found else None


def _has(found: Found, name: str) -> bool:
    if isinstance(found.node, ast.ClassDef) and _method(found.node, name):
        return True
    return any(_has(base, name) for base in found.bases())


def _ports(found: Found) -> list[Found]:
    """The ports that a class says it is; they describe its methods."""
    text = ast.get_docstring(found.node) if isinstance(found.node, ast.ClassDef) else None
    said = _PORT.search(text or "")
    names = said.groups() if said else ()
    ports = [Found(module(known_ports()[name]), name) for name in names if name in known_ports()]
    return [*ports, *(port for base in found.bases() for port in _ports(base))]


@cache
def known_ports() -> dict[str, str]:
    """Call this for the modules of all protocols that adapters may be of."""
    return {
        name: path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in sorted((ROOT / "actors").rglob("*.py"))
        for name in _PROTOCOL.findall(path.read_text())
    }


def _is_property(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list
    )


def _is_protocol(node: ast.ClassDef) -> bool:
    return any("Protocol" in ast.unparse(base) for base in node.bases)


def _is_error(found: Found) -> bool:
    assert isinstance(found.node, ast.ClassDef)
    roots = {"Exception", "ValueError", "RuntimeError", "AssertionError"}
    named = {one.id for one in found.node.bases if isinstance(one, ast.Name)}
    return bool(named & roots) or any(_is_error(base) for base in found.bases())


def _set_in(start: Function, where: Module) -> Iterator[tuple[str, str, str]]:
    """What `__init__` sets: names, types where they can be seen, and the string below."""
    args = [*start.args.posonlyargs, *start.args.args, *start.args.kwonlyargs]
    kinds = {one.arg: ast.unparse(one.annotation) for one in args if one.annotation}
    pairs: list[tuple[ast.expr, ast.expr | None, str]]
    for at, one in enumerate(start.body):
        if isinstance(one, ast.AnnAssign):
            pairs = [(one.target, one.value, ast.unparse(one.annotation))]
        elif isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Tuple):
            values = one.value.elts if isinstance(one.value, ast.Tuple) else []
            pairs = [(t, v, "") for t, v in zip(one.targets[0].elts, values, strict=False)]
        elif isinstance(one, ast.Assign):
            pairs = [(one.targets[0], one.value, "")]
        else:
            continue
        for target, value, kind in pairs:
            if isinstance(target, ast.Attribute):
                yield target.attr, kind or _kind(value, kinds), _text_below(start.body, at)


def _kind(value: ast.expr | None, kinds: dict[str, str]) -> str:
    match value:
        case ast.Name(id=name):
            return kinds.get(name, "")
        case ast.Call(func=ast.Name(id=name)) if name[0].isupper():
            return name
    return ""


def main() -> int:
    """Call this to write the pages; tells what only a person can mend."""
    reference = Reference(PAGES)
    shutil.rmtree(ROOT / FOLDER)
    for file, text in reference.files().items():
        path = ROOT / FOLDER / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    left = list(reference.check())
    print(*left, sep="\n", end="\n" if left else "")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
