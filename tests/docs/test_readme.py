"""The README's program is the example that runs, and says what it prints."""

import re
import subprocess
import sys
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


def check_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            continue
        found = (page.parent / path).resolve()
        assert found.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            anchors = {
                re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
                for title in re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            }
            assert anchor in anchors, (
                f"{page.name} links to {target}; {found.name} has no such part"
            )
