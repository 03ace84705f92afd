"""The API reference, written from signatures and docstrings: `python -m tests.docs.api`.

`docs/reference/api/` has one page a package. Every name of its `__all__` stands there, under the
subject that `PAGES` gives it, as the source has it: nothing is imported, so the text is the same
whatever Python runs this. What is shown of a class:

- its head with its fields, and the comments beside them; of an error what it carries,
- what its `__init__` sets and says something about, in a string below,
- properties and methods that have no underscore, and special ones with a docstring; those of
  bases that are not public included.

Not shown is what the runtime itself calls ("Called ..."), save in a protocol, where the reader
writes it. A method without a docstring is one that its base describes; without such a base it is a
problem.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent, indent
from typing import Final, TypeAlias, TypeGuard

from tests.docs.api_subjects import MADE_BY_US, PAGES, Page, Subject

ROOT = Path(__file__).parents[2]
FOLDER = Path("docs/reference/api")
COMMAND = "python -m tests.docs.api"

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Statement: TypeAlias = ast.Assign | ast.AnnAssign

_MARKS: Final = re.compile(r"\s*# (?:noqa|type: ignore|pyright: ignore).*$", re.MULTILINE)
# A name between backticks, or a class in a sentence: two humps, for one is a word of English.
_SPAN: Final = re.compile(
    r"`(?P<name>[A-Za-z_][\w.]*)(?P<call>\([^`]*\))?`|(?<![`\w.])(?P<word>(?:[A-Z][a-z]+){2,})\b"
)
_DEFAULT: Final = re.compile(r"= (_?[A-Z][A-Z0-9_]+)\b(?!\.)")
_VALUE_MAX: Final = 20
_WORD: Final = re.compile(r"(?<![.\w])[A-Z]\w+")
_NO_WORD: Final = re.compile(r"\"[^\"\n]*\"|#.*")
_FENCE: Final = re.compile(r"^```\w*.*?^```$|^ {4,}.*?$", re.MULTILINE | re.DOTALL)


class Module:
    """One source file: what it defines and imports, and its text."""

    def __init__(self, name: str) -> None:
        self.name = name
        path = ROOT / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        self.text = file.read_text()
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
            return [one.id for one in node.targets if isinstance(one, ast.Name)]
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
    find.cache_clear()


@cache
def find(where: str, name: str) -> Found | None:
    """Call this to find what a module means by a name; None when it is not one of ours."""
    looked = module(where)
    if name in looked.defined:
        return Found(looked, name)
    source, there = looked.imported.get(name, ("", ""))
    if source.partition(".")[0] not in ("actors", "supervision"):
        return None
    return find(source, there)


def public_names(package: str) -> list[str]:
    """Call this for the `__all__` of a package."""
    value = module(package).defined["__all__"]
    assert isinstance(value, ast.Assign)
    names = ast.literal_eval(value.value)
    assert isinstance(names, list)
    return [str(name) for name in names]


class Reference:
    """All pages together: who stands where, and what of it is shown."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self.pages = pages
        self.problems: list[str] = []
        self.place: dict[str, list[str]] = {}  # The pages that have a name, by name.
        self.documented: dict[int, str] = {}  # A page by what is documented there.
        self.inherited: dict[tuple[str, int, str], str] = {}  # Methods of hidden bases: who first.
        self.anchors: dict[tuple[str, str], str] = {}
        self.words: dict[tuple[str, str], str] = {}  # The module of a word, by page and name.
        for page in pages:
            for word in page.words:
                where, _, name = word.rpartition(".")
                self.words[page.file, name] = where
            for subject in _subjects(page):
                for name in subject.names:
                    self.place.setdefault(name, []).append(page.file)
                    if found := self._find(page, name):
                        self.documented[id(found.node)] = page.file
        for page in pages:  # Once for the anchors, which links need.
            self.text(page)

    def check(self) -> Iterator[str]:
        """Call this to list what a person has to mend, in `PAGES` or in a docstring."""
        for page in self.pages:
            named = Counter(name for subject in page.subjects for name in subject.names)
            public = public_names(page.package)
            where = f"PAGES in tests/docs/api_subjects.py: {page.package}"
            yield from (f"{where} has no subject for {n}" for n in public if n not in named)
            yield from (f"{where} names {n}, which is not public" for n in named if n not in public)
            yield from (f"{where} names {n} twice" for n, count in named.items() if count > 1)
        known = set(self.place)
        yield from (f"MADE_BY_US names {n}, which is on no page" for n in MADE_BY_US - known)
        for page in self.pages:
            self.text(page)
        yield from dict.fromkeys(self.problems)
        yield from self._unexplained()

    def _unexplained(self) -> Iterator[str]:
        """Names of types that a reader meets in a signature and finds on no page."""
        met = {find(name, word) for name, looked in list(_read.items()) for word in looked.used}
        for found in sorted(met - {None}, key=str):
            if found and _is_type(found.node) and id(found.node) not in self.documented:
                what = f"{found.module.name}.{found.name}"
                yield f"{what} stands in a signature: add it to `words` of the page"

    def text(self, page: Page) -> str:
        """Call this for a page as it shall be."""
        parts = [f"# {page.title}", page.intro, self._contents(page)]
        for subject in _subjects(page):
            parts += [f"## {subject.title}", *([subject.intro] if subject.intro else [])]
            for name in subject.names:
                parts += self._entry(page, name)
        self._note_anchors(page, [part for part in parts if part.startswith("#")])
        return "\n\n".join(parts) + "\n"

    def _note_anchors(self, page: Page, headings: Sequence[str]) -> None:
        """As a code host makes them: equal ones, also in capitals only, are numbered."""
        taken: Counter[str] = Counter()
        for heading in headings:
            marks, _, title = heading.partition(" ")
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
            key = heading if marks == "##" else title
            self.anchors[page.file, key] = f"{anchor}-{taken[anchor]}" if taken[anchor] else anchor
            taken[anchor] += 1

    def _contents(self, page: Page) -> str:
        lines = ["| subject | names |", "|---|---|"]
        for subject in _subjects(page):
            names = ", ".join(self._link(page, name) for name in subject.names)
            anchor = self.anchors.get((page.file, f"## {subject.title}"))
            lines.append(f"| [{subject.title}](#{anchor}) | {names} |")
        return "\n".join(lines)

    def _find(self, page: Page, name: str) -> Found | None:
        return find(self.words.get((page.file, name), page.package), name)

    def _entry(self, page: Page, name: str) -> Iterator[str]:
        found = self._find(page, name)
        if found is None:
            self.problems.append(f"{page.package}.{name} is defined nowhere")
            return
        yield f"### {name}"
        match found.node:
            case ast.ClassDef():
                yield from self._class(page, found)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield _fenced(_signature(found.module, found.module.tree.body, name))
                yield self._doc(page, name, ast.get_docstring(found.node) or "")
            case _:
                yield _fenced(found.module.source(found.node, comments=False))
                yield self._doc(page, name, found.module.described[name])

    def _class(self, page: Page, found: Found) -> Iterator[str]:
        node = found.node
        assert isinstance(node, ast.ClassDef)
        lines = [found.module.head(node) + ":", *(self._fields(found))]
        if (start := _method(node, "__init__")) and found.name not in MADE_BY_US:
            lines.append(indent(found.module.head(start), "    "))
        yield _fenced("\n".join(lines).removesuffix(":"))
        yield self._doc(page, found.name, ast.get_docstring(node) or "")
        if shown := "\n".join(self._attributes(page, found)):
            yield shown
        also: list[str] = []
        yield from self._methods(page, found, set(), found.name, also)
        if also:
            yield f"Also {', '.join(also)}."
        more = [self._link_to(page, base) for base in found.bases() if self._is_public(base)]
        if more:
            yield f"And what {' and '.join(more)} {'has' if len(more) == 1 else 'have'}."

    def _link_to(self, page: Page, found: Found) -> str:
        """A link to the very thing: two packages may have something of one name."""
        file = self.documented[id(found.node)]
        anchor = self.anchors.get((file, found.name))
        return f"[`{found.name}`]({'' if file == page.file else file}#{anchor})"

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

    def _attributes(self, page: Page, found: Found) -> Iterator[str]:
        """Properties, and what `__init__` sets: with a string below; in an error all of it."""
        node = found.node
        assert isinstance(node, ast.ClassDef)
        for base in found.bases():
            if not self._is_public(base):
                own = {one.name for one in node.body if isinstance(one, Function)}
                lines = list(self._attributes(page, base))
                yield from (line for line in lines if not own & {line.split(":")[0][3:]})
        start = _method(node, "__init__")
        if start is not None:
            for name, kind, text in _set_in(start, found.module):
                if text or (_is_error(found) and not name.startswith("_")):
                    said = f": {self._linked(page, text, '')}" if text else ""
                    yield f"- `{name}{f': {kind}' if kind else ''}`{said}"
        for one in node.body:
            if _is_property(one) and not one.name.startswith("_"):
                kind = found.module.lines[one.lineno - 1].partition("->")[2].strip(" :")
                kind = _MARKS.sub("", kind).rstrip(":")
                text = self._doc(page, f"{found.name}.{one.name}", ast.get_docstring(one) or "")
                yield f"- `{one.name}: {kind}`: {indent(text, '  ').lstrip()}"

    def _methods(
        self, page: Page, found: Found, seen: set[str], shown_as: str, also: list[str]
    ) -> Iterator[str]:
        """The methods; those of a base of several stand at the first, `also` has the rest."""
        node = found.node
        assert isinstance(node, ast.ClassDef)
        for one in node.body:
            if not isinstance(one, Function) or _is_property(one) or one.name in seen:
                continue
            text = ast.get_docstring(_method(node, one.name) or one) or ""
            if one.name.startswith("_") and not (one.name.startswith("__") and text):
                continue
            seen.add(one.name)
            if text.startswith("Called ") and not _is_protocol(node):
                continue
            if not text and any(_has(base, one.name) for base in found.bases()):
                continue
            first = self.inherited.setdefault((page.file, id(found.node), one.name), shown_as)
            if first != shown_as:
                there = self._link(page, f"{first}.{one.name}", f"`{one.name}`")
                also.append(f"{there} as `{first}` has it")
                continue
            yield f"#### {shown_as}.{one.name}"
            yield _fenced(_signature(found.module, node.body, one.name))
            yield self._doc(page, f"{shown_as}.{one.name}", text)
        for base in found.bases():
            if not self._is_public(base):
                yield from self._methods(page, base, seen, shown_as, also)

    def _doc(self, page: Page, what: str, text: str) -> str:
        if not text:
            self.problems.append(f"{page.package}.{what} has no docstring")
        text = re.sub(r"::$", ":", text, flags=re.MULTILINE).replace("```python", "```py")
        return self._linked(page, text, what)

    def _linked(self, page: Page, text: str, what: str) -> str:
        """The text with names that stand on these pages as links; programs stay as they are."""
        parts, end = [], 0
        for code in _FENCE.finditer(text):
            parts += [self._spans(page, text[end : code.start()], what), code[0]]
            end = code.end()
        return "".join([*parts, self._spans(page, text[end:], what)])

    def _spans(self, page: Page, text: str, what: str) -> str:
        def link(span: re.Match[str]) -> str:
            whole = span["name"] or span["word"]
            name = whole.partition(".")[0]
            # `message` is more often the argument than the decorator.
            is_word = name.islower() and "_" not in name and not span["call"]
            if name not in self.place or name == what.partition(".")[0] or is_word:
                return span[0]
            return self._link(page, whole, span[0])

        return _SPAN.sub(link, text)

    def _link(self, page: Page, name: str, text: str = "") -> str:
        whole, name = name, name.partition(".")[0]
        file = page.file if page.file in self.place[name] else self.place[name][0]
        anchor = self.anchors.get((file, whole)) or self.anchors.get((file, name))
        return f"[{text or f'`{whole}`'}]({'' if file == page.file else file}#{anchor})"


def _subjects(page: Page) -> tuple[Subject, ...]:
    """The subjects of a page, and behind them the words that its signatures use."""
    if not page.words:
        return page.subjects
    names = tuple(sorted(word.rpartition(".")[2] for word in page.words))
    intro = "Not imported from the front page; they say what may stand in the signatures above."
    return (*page.subjects, Subject("Words in signatures", names, intro))


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
    for page in PAGES:
        (ROOT / FOLDER / page.file).write_text(reference.text(page))
    left = list(reference.check())
    print(*left, sep="\n", end="\n" if left else "")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
