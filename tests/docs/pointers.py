"""Where documents, docstrings and comments point to, and whether something is there.

Five kinds of pointers: a file or folder (`x.py`, `chat/`, `storage/postgres`), a module
(`actors.runtime`, also with a name in it), a neighbour's name (`cell.Owner`), a class, and a
command (`make run`, `python -m x.y`, `greenroom serve`). A path is looked for where the reader
looks: in the folder of the file that names it, in the folders above, at the root; for a test also
in the folder it mirrors. `test_pointers.py` runs this on the project and on planted pointers.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

PACKAGES = ("actors", "supervision", "storage", "web")
FOLDERS = (*PACKAGES, "tests", "docs")
# The page of requirements names headers and shapes, and has a test of its own; these two files
# show pointers as examples, or plant them.
_LEFT_OUT = frozenset(
    {"docs/reference/requirements.md", "tests/docs/pointers.py", "tests/docs/test_pointers.py"}
)

_ENDINGS = r"(?:py|md|sql|sh|html|css|js|toml|erl|lock)"
_PATH = re.compile(rf"(?<![\w/.:<{{*-])((?:[\w*-][\w.*-]*/)*[\w*][\w.*-]*\.{_ENDINGS})(?![\w/])")
_SPAN = re.compile(r"`([^`\n]+)`")
_FOLDER = re.compile(r"\w[\w-]*(?:/[\w-]+)*/?")
_MODULE = re.compile(rf"(?:{'|'.join(FOLDERS)})(?:\.\w+)+")
_NEIGHBOUR = re.compile(r"([a-z_]+)\.([A-Z]\w*)")
# Two humps: one word with a capital is too often a header, a room or a word of the trade.
_CLASS = re.compile(r"_?[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]*)+")
_IMPORT = re.compile(
    rf"^.*?\bfrom ((?:{'|'.join(FOLDERS)})[\w.]*) import (\([^)]*\)|[\w, ]+)", re.MULTILINE
)
_IMPORTED = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(?:^|\s)# (.*)$", re.MULTILINE)
_MAKE = re.compile(r"^\s*make ([a-z-]+)", re.MULTILINE)
_RUN_MODULE = re.compile(rf"-m ((?:{'|'.join(FOLDERS)})(?:\.\w+)+)")
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
# As argparse adds one, and as the parser of the command line does by functions of its own.
_SUBCOMMAND = re.compile(r"(?:add_parser|_group|_reading|_changing)\(\s*(?:\w+, )?\"([a-z-]+)\"")
_GREENROOM = re.compile(r"^(?:\.venv/bin/)?greenroom ([a-z]+)", re.MULTILINE)

# Files that a reader makes or that a command writes, and the name that all front pages have.
_NOT_ONE_FILE = frozenset({"first.py", "build/bench.json", "__init__.py"})

# The kinds of nodes that name something or say something, of two million of all kinds.
_TELLING = frozenset(
    {
        *(ast.Name, ast.Attribute, ast.alias),
        *(ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Module),
    }
)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that points: its path, its prose, the programs shown in it, what it imports."""

    path: str
    prose: str
    shell: str = ""
    python: str = ""
    imported: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Project:
    """What can be pointed to: paths, what each module defines, all names in code, commands."""

    paths: frozenset[str]
    modules: Mapping[str, frozenset[str]] = field(repr=False)
    names: frozenset[str] = field(repr=False)
    targets: frozenset[str]
    subcommands: frozenset[str]


def read(root: Path) -> tuple[Project, list[Source]]:
    """Call this to read the project once, as what is pointed to and as what points."""
    paths: set[str] = set()
    modules: dict[str, frozenset[str]] = {}
    names: set[str] = set()
    subcommands: set[str] = set()
    sources: list[Source] = []
    for file in _files(root):
        path = file.relative_to(root).as_posix()
        paths |= {path, *(parent.as_posix() for parent in PurePosixPath(path).parents)}
        if path in _LEFT_OUT or file.suffix not in {".py", ".md"}:
            continue
        text = file.read_text()
        if file.suffix == ".md":
            sources.append(page(path, text))
            continue
        seen = _Seen(text)
        sources.append(Source(path, seen.prose, imported=frozenset(seen.imported)))
        modules[path] = frozenset(seen.defined)
        names |= seen.names
        subcommands.update(_SUBCOMMAND.findall(text))
    targets = _TARGET.findall((root / "Makefile").read_text())
    project = Project(
        paths=frozenset(paths),
        modules=modules,
        names=frozenset(names),
        targets=frozenset(targets),
        subcommands=frozenset(subcommands),
    )
    return project, sources


def _files(root: Path) -> Iterator[Path]:
    for file in root.iterdir():
        if file.is_file():
            yield file
    for folder in (*FOLDERS, "requirements"):
        for file in sorted((root / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file


def page(path: str, text: str) -> Source:
    """Call this for a page: of what it shows only commands and imports point somewhere."""
    shown = [(found[1], found[2]) for found in _FENCE.finditer(text)]
    shell = "\n".join(block for kind, block in shown if kind in {"shell", "console"})
    python = "\n".join(block for _, block in shown)
    imported = frozenset(_IMPORTED.findall(python))
    return Source(path, _FENCE.sub("", text), shell, python, imported)


class _Seen:
    """One walk through a module: what points in it, what it imports and defines, its names."""

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self.imported: set[str] = set()
        self._prose = _COMMENT.findall(text)
        tree = ast.parse(text)
        self._walk(tree)
        self.defined = {*self.imported, *_defined(tree)}
        self.prose = "\n".join(self._prose)

    def _walk(self, tree: ast.Module) -> None:
        # Two million nodes: `ast.walk` with its generators takes twice as long.
        below: list[ast.AST] = [tree]
        while below:
            node = below.pop()
            if node.__class__ in _TELLING:
                self._look(node)
            for name in node._fields:
                value = getattr(node, name, None)
                if value.__class__ is list:
                    below += [one for one in value if isinstance(one, ast.AST)]
                elif isinstance(value, ast.AST):
                    below.append(value)

    def _look(self, node: ast.AST) -> None:
        match node:
            case ast.Name():
                self.names.add(node.id)
            case ast.Attribute():
                self.names.add(node.attr)
            case ast.alias():
                self.names.update(node.name.split("."))
                self.imported.add((node.asname or node.name).partition(".")[0])
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                self.names.add(node.name)
                self._prose.append(ast.get_docstring(node) or "")
            case ast.Module():
                self._prose.append(ast.get_docstring(node) or "")


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def dead(source: Source, project: Project) -> list[str]:
    """Call this to list the pointers of one file that lead nowhere."""
    spans = _SPAN.findall(source.prose)
    commands = "\n".join([*spans, source.shell])
    found = [
        *(one for one in _PATH.findall(source.prose) if not _is_there(one, source, project)),
        *(one for one in spans if _is_dead_folder(one, source, project)),
        *(
            one[0]
            for span in spans
            if (one := _MODULE.match(span))
            and not _PATH.search(span)
            and not _is_module(one[0], project)
        ),
        *(span for span in spans if _is_dead_neighbour(span, source, project)),
        *(
            span
            for span in spans
            if (name := _CLASS.match(span))
            and name[0] not in project.names
            and not span.startswith((f"{name[0]}/", f"{name[0]}-"))
        ),
        *(f"make {one}" for one in _MAKE.findall(commands) if one not in project.targets),
        *(f"-m {one}" for one in _RUN_MODULE.findall(commands) if not _is_module(one, project)),
        *(
            f"{module}.{name}"
            for module, names in _IMPORT.findall(source.python)
            for name in re.findall(r"\w+", names)
            if not _is_module(f"{module}.{name}", project)
        ),
        *(
            f"greenroom {one}"
            for one in _GREENROOM.findall(commands)
            if one not in project.subcommands
        ),
    ]
    return [f"{source.path} points to `{one}`, which is not there" for one in dict.fromkeys(found)]


def _looked_in(source: Source) -> Iterator[PurePosixPath]:
    path = PurePosixPath(source.path)
    yield from path.parents
    if path.parts[0] == "tests":
        yield from list(PurePosixPath(*path.parts[1:]).parents)[:-1]


def _is_there(path: str, source: Source, project: Project) -> bool:
    if path in _NOT_ONE_FILE:
        return True
    for folder in _looked_in(source):
        wanted = (folder / path).as_posix()
        if "*" in wanted:
            if any(PurePosixPath(one).match(wanted) for one in project.paths):
                return True
        elif wanted in project.paths:
            return True
    return False


def _is_dead_folder(span: str, source: Source, project: Project) -> bool:
    first = span.partition("/")[0]
    if not _FOLDER.fullmatch(span) or "/" not in span or first.isupper():
        return False
    if not span.endswith("/") and first not in FOLDERS:
        return False
    return not _is_there(span.rstrip("/"), source, project)


def _is_module(dotted: str, project: Project) -> bool:
    """True for a module, and for what a module defines or imports: `actors.runtime.Owner`."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        path = "/".join(parts[:count])
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if file in project.modules:
                return count == len(parts) or parts[count] in project.modules[file]
        if path in project.paths:
            return count == len(parts)
    return False


def _is_dead_neighbour(span: str, source: Source, project: Project) -> bool:
    found = _NEIGHBOUR.match(span)
    if found is None or _PATH.search(span):
        return False
    name, attribute = found.groups()
    if name in source.imported or name in sys.stdlib_module_names:
        return False
    for folder in _looked_in(source):
        for path in (f"{name}.py", f"{name}/__init__.py"):
            if attribute in project.modules.get((folder / path).as_posix(), ()):
                return False
    return True
