"""Markdown becomes HTML that holds nothing but what we let through."""

from __future__ import annotations

import pytest

from web.documentation.markdown import Heading, render, sections_of


def nowhere(_: str) -> str | None:
    return None


def everywhere(written: str) -> str | None:
    return f"/docs/{written}"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "# <script>alert(1)</script>",
        "| <b>a</b> | b |\n|---|---|\n| <i onclick=x>c</i> | d |",
        "```html\n<script>alert(1)</script>\n```",
        "```nonsense\n<script>alert(1)</script>\n```",
        "    <script>alert(1)</script>",
        "`<script>`",
        "![<script>](x.png)",
    ],
)
def test_raw_html_is_text(text: str) -> None:
    html = render(text, everywhere).html  # SITE-16
    assert not any(f"<{name}" in html for name in ("script", "img", "b>", "i ")), html
    assert "&lt;" in html


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html;base64,PHNjcmlwdD4=",
        "vbscript:x",
        "file:///etc/passwd",
        "//example.com/x",
        "/\\\\example.com",
        "ftp://example.com",
        "java&#10;script:alert(1)",
        "<java\tscript:alert(1)>",
    ],
)
def test_links_lead_to_safe_places_only(target: str) -> None:
    article = render(f"[here]({target}) and <{target}>", nowhere)  # SITE-16
    assert "href" not in article.html, article.html
    assert "here" in article.html


@pytest.mark.parametrize(
    "target", ["https://example.com/a?b=1&c=2", "http://example.com", "mailto:a@example.com"]
)
def test_other_sites_and_mail_may_be_linked(target: str) -> None:
    article = render(f"[here]({target})", nowhere)  # SITE-16
    assert f'href="{target.replace("&", "&amp;")}"' in article.html
    assert article.dead_links == ()


def test_what_leads_nowhere_is_told_and_shown_as_text() -> None:
    article = render("see [the page](gone.md#there)", nowhere)
    assert article.dead_links == ("gone.md#there",)
    assert "the page" in article.html
    assert "gone" not in article.html


def test_headings_are_named_as_github_names_them() -> None:
    text = """\
# Your *first* `actor`: a, b
## Again
## Again
#### `Taken.__enter__`
## A [link](x.md) in it
```python
# no heading
```
## Great & small ##
"""
    expected = (
        Heading(1, "Your first actor: a, b", "your-first-actor-a-b"),
        Heading(2, "Again", "again"),
        Heading(2, "Again", "again-1"),
        Heading(4, "Taken.__enter__", "taken__enter__"),
        Heading(2, "A link in it", "a-link-in-it"),
        Heading(2, "Great & small", "great--small"),
    )
    article = render(text, everywhere)
    assert article.headings == expected
    assert tuple(section.heading for section in sections_of(text)) == expected
    assert 'href="#again-1"' in article.html


def test_code_is_coloured_and_can_be_copied() -> None:
    html = render("```python\nclass A: ...\n```\n\n```nonsense\na < b\n```", everywhere).html
    assert '<span class="k">class</span>' in html  # SITE-15
    assert html.count(">Copy</button>") == 2  # DOC-6
    assert "a &lt; b" in html
    assert "style=" not in html


def test_tables_have_no_style_and_requirements_have_anchors() -> None:
    html = render("| id | n |\n|---|--:|\n| SUP-30 | 1 |\n| sup | 2 |", everywhere).html
    assert 'id="sup-30"' in html
    assert html.count(" id=") == 1
    assert 'class="right"' in html
    assert "style=" not in html


def test_a_head_that_says_nothing_is_no_heading() -> None:
    html = render("| | a |\n|---|---|\n| x | 1 |\n\n| | |\n|---|---|\n| y | 2 |", everywhere).html
    corner, _, bare = html.partition("</table>")
    assert "<td></td>\n<th>a</th>" in corner
    assert "<th></th>" not in html
    assert "<thead>" not in bare
    assert "<td>y</td>" in bare
