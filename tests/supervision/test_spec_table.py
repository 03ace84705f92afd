"""The table that every `SpecError` points to says what the code does."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Never, cast

import pytest

from supervision import Backoff, ChildSpec, DynamicFlags, Flags, SpecError
from supervision.specs import specs
from supervision.specs.errors import TABLE
from tests.docs.test_readme import check_links

ROOT = Path(__file__).parents[2]
PAGE, _, ANCHOR = TABLE.partition("#")

# What a row may be about.
KINDS = ("a child", "`Backoff`", "a supervisor", "a dynamic one")
WORDS = {
    "restart": specs.RESTART_TYPES,
    "type": specs.CHILD_TYPES,
    "strategy": specs.STRATEGIES,
    "budget": specs.BUDGETS,
    "auto_shutdown": specs.AUTO_SHUTDOWN_MODES,
}


def make(kind: str, options: dict[str, Never]) -> object:
    match kind:
        case "`Backoff`":
            return Backoff(**options)
        case "a supervisor":
            return Flags(**options)
        case "a dynamic one":
            return DynamicFlags(**options)
        case _:
            return ChildSpec.parse({"id": "a", "start": list, **options})


def rows() -> list[tuple[str, str, str, str, list[str]]]:
    """Of what, which field, what is allowed, the default, the codes."""
    found, about = [], ""
    for line in (ROOT / PAGE).read_text().partition("## What may be written")[2].splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if line.startswith("## "):
            break
        if len(cells) == 5 and cells[0] != "of" and not cells[0].startswith("---"):
            about = cells[0] or about
            codes = re.findall(r"`(\w+)`", cells[4])
            found.append((about, cells[1].strip("`"), cells[2], cells[3], codes))
    return found


def defaults_of(kind: str) -> dict[str, object]:
    if kind == "a child":
        found = inspect.signature(ChildSpec.__init__).parameters.values()
        return {
            one.name: one.default
            for one in found
            if one.name != "self" and one.kind is not one.VAR_KEYWORD
        }
    made = {"`Backoff`": Backoff, "a supervisor": Flags, "a dynamic one": DynamicFlags}[kind]
    return {one.name: None if one.default is MISSING else one.default for one in fields(made)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_has_every_field_and_no_other(kind: str) -> None:
    # SUP-2
    told = [field for about, field, *_ in rows() if about == kind and field != "its template"]
    assert sorted(told) == sorted(defaults_of(kind))


def test_the_defaults_are_those_of_the_code() -> None:
    # SUP-2
    for about, field, _, default, _ in rows():
        if about not in KINDS or field in ("its template", "id", "start", "type"):
            continue
        value = defaults_of(about)[field]
        if field == "shutdown":
            value = specs.WORKER_SHUTDOWN
        words = {(): "none", Exception: "Exception", BaseException: "BaseException"}
        wanted = words.get(value, str(value)) if not isinstance(value, list) else str(value)
        assert default.replace("`", "").startswith(wanted), (about, field)


def test_the_words_are_those_of_the_code() -> None:
    # SUP-2
    for about, field, allowed, _, _ in rows():
        words = set(re.findall(r"`(\w+)`", allowed))
        if field in WORDS and (about, field) != ("a dynamic one", "auto_shutdown"):
            assert words == WORDS[field], (about, field)


def test_the_codes_are_those_of_the_code() -> None:
    # SUP-2
    told = {code for *_, codes in rows() for code in codes}
    assert told == codes_in(ROOT / "supervision")


def codes_in(folder: Path) -> set[str]:
    """Every code that is raised: the first argument of `SpecError`, or of a check called so."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name):
                first = node.args[0]
                is_one = node.func.id in ("SpecError", "_check_choice", "_check_optional")
                if is_one and isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


@pytest.mark.parametrize("about", [*KINDS, "any of them"])
def test_a_wrong_value_raises_the_code_of_its_row(about: str) -> None:
    # SUP-2
    for kind, field, _, _, codes in rows():
        if kind != about or field in ("its template",):
            continue
        options = {"no_such_option" if about == "any of them" else field: object()}
        with pytest.raises(SpecError) as caught:
            make(about, cast("dict[str, Never]", options))
        assert caught.value.code in codes, field
        assert caught.value.field in options


def test_the_error_points_to_the_table(tmp_path: Path) -> None:
    # SUP-2
    with pytest.raises(SpecError) as caught:
        Flags(intensity=-1)
    where = r"\((.*/)?test_spec_table\.py:\d+ in test_the_error_points_to_the_table\)"
    assert re.match(
        f"bad_intensity: intensity=-1 is not allowed {where}; nothing was changed. See ",
        str(caught.value),
    )
    assert str(caught.value).endswith(f"{TABLE}.")
    page = tmp_path / "page.md"
    page.write_text(f"[the table]({ROOT / PAGE}#{ANCHOR})")
    check_links(page)
