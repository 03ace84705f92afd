"""The README's program is the example that runs, and says what it prints."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "docs" / "examples" / "first_actor.py"


def test_the_readme_shows_the_example_as_it_is() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    source = EXAMPLE.read_text()
    assert block.strip() in source
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 25


@pytest.mark.slow
def test_the_example_prints_what_the_readme_says() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "docs.examples.first_actor"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    said = [line for line in ran.stdout.splitlines() if line.startswith(("crashed:", "restarted:"))]
    assert said == ["crashed: division by zero", "restarted: 25.0"]
    assert all(f"`{line}`" in README for line in said)


@pytest.mark.parametrize(
    "page", sorted(path.relative_to(ROOT) for path in ROOT.glob("docs/**/*.md"))
)
def test_relative_links_resolve(page: Path) -> None:  # SITE-16
    check_links(ROOT / page)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_front_pages_resolve(name: str) -> None:
    check_links(ROOT / name)


def test_the_map_has_every_page() -> None:
    docs = ROOT / "docs"
    text = (docs / "README.md").read_text()
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} - {"README.md"}
    # One page is made of them, and nobody reads them one by one.
    pages -= {name for name in pages if name.startswith("news/")}
    # A subject of a package is reached from the page of its package.
    pages -= {name for name in pages if re.match("reference/api/[^/]+/", name)}
    pages |= {f"examples/{path.name}" for path in (docs / "examples").glob("*.py")}
    rows = re.findall(r"^\| \[([^]]+)\]\(([^)]+)\) \| [^|]+ \|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == [link for _, link in rows]
    assert sorted(name for name, _ in rows) == sorted(pages)


def check_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors_of(found.read_text()), (
                f"{page.name} links to {target}; {found.name} has no such part"
            )


def anchors_of(text: str) -> set[str]:
    """What a code host makes of the headings: equal ones are numbered, programs have none."""
    taken: Counter[str] = Counter()
    anchors = set()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for title in re.findall(r"^#+ (.*)$", prose, re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        anchors.add(f"{anchor}-{taken[anchor]}" if taken[anchor] else anchor)
        taken[anchor] += 1
    return anchors


def test_headings_that_differ_in_capitals_are_numbered() -> None:
    text = "# Ref\n```py\n# a comment\n```\n## ref\n## It's so\n"
    assert anchors_of(text) == {"ref", "ref-1", "its-so"}
