"""Markdown to HTML: raw HTML stays text, links lead to safe places only, headings have anchors.

Anchors are named as GitHub names them, so that a link works in both places. Code is coloured here,
by Pygments, and the style sheet knows its classes. Pure: nothing is read, nothing is fetched.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

# What a link becomes; None is one that leads nowhere here, and is shown as its text.
Linker = Callable[[str], str | None]

# A row of the table of requirements can be linked to by its id in small letters.
REQUIREMENT = re.compile(r"[A-Z]{2,5}-[0-9]{1,3}")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# SITE-16: what may be linked to beside our own pages.
_OUTSIDE = ("http://", "https://", "mailto:")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_MARKUP = re.compile(r"[][`*_\\&<>]")
_NO_ANCHOR = re.compile(r"[^\w\- ]")
# Names of ours for what Pygments calls otherwise.
_LANGUAGES = {"jsx": "javascript", "haproxy": "nginx", "sh": "bash"}

_FORMATTER = HtmlFormatter(nowrap=True)


@dataclass(frozen=True, slots=True)
class Heading:
    """One heading of a page: how deep, what it says without markup, where a link finds it."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and what stands below it up to the next one, as it was written."""

    heading: Heading
    text: str


@dataclass(frozen=True, slots=True)
class Article:
    """A rendered text. `html` was made here: all that came from outside is escaped in it."""

    html: str
    headings: tuple[Heading, ...]
    # Every link that led nowhere, as it was written; for tests.
    dead_links: tuple[str, ...] = ()


@dataclass(slots=True)
class _Anchors:
    """Names headings as GitHub does: the second of one name gets `-1` behind it."""

    given: dict[str, int] = field(default_factory=dict)

    def next(self, text: str) -> str:
        base = _NO_ANCHOR.sub("", text.lower()).replace(" ", "-") or "section"
        number = self.given.get(base)
        self.given[base] = 0 if number is None else number + 1
        return base if number is None else f"{base}-{number + 1}"


def render(text: str, link: Linker) -> Article:
    """Call this to render a page; `link` decides about every relative link, `#place` too."""
    engine = _engine()
    tokens = _without_empty_heads(engine.parse(text))
    anchors, headings = _Anchors(), list[Heading]()
    dead = [written for token in _links(tokens) if (written := _mend_link(token, link))]
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            said = _plain(tokens[at + 1])
            heading = Heading(int(token.tag[1:]), said, anchors.next(said))
            headings.append(heading)
            token.attrSet("id", heading.anchor)
            token.meta["anchor"] = heading.anchor
            tokens[at + 2].meta["anchor"] = heading.anchor
        elif token.type in ("td_open", "th_open"):
            _mend_cell(token, tokens[at + 1].content)
            if not tokens[at + 1].content:
                # A cell above the names of the rows is the heading of nothing.
                token.tag = tokens[at + 2].tag = "td"
    return Article(engine.renderer.render(tokens, engine.options, {}), tuple(headings), tuple(dead))


def render_program(name: str, text: str) -> str:
    """Call this to show a whole Python file as a page."""
    return f'<h1 id="top">{escape(name)}</h1>\n{_code_block(text, "python")}'


def sections_of(text: str) -> tuple[Section, ...]:
    """Call this for the sections of a page without rendering it; the headings `render` finds."""
    anchors, fence, engine = _Anchors(), "", _engine()
    found: list[tuple[Heading, list[str]]] = []
    for line in text.splitlines():
        border = _FENCE.match(line)
        if border and (not fence or border[1].startswith(fence)):
            fence = "" if fence else border[1]
        elif not fence and (heading := _HEADING.match(line)):
            said = _without_markup(heading[2], engine)
            found.append((Heading(len(heading[1]), said, anchors.next(said)), []))
            continue
        if found:
            found[-1][1].append(line)
    return tuple(Section(heading, "\n".join(lines)) for heading, lines in found)


def _without_markup(text: str, engine: MarkdownIt) -> str:
    # Most have none, and the engine takes thirty times as long to find that out.
    return _plain(engine.parseInline(text)[0]) if _MARKUP.search(text) else text


# -- the engine ------------------------------------------------------------------------------------


def _engine() -> MarkdownIt:
    engine = MarkdownIt("commonmark", {"html": False}).enable("table")
    engine.add_render_rule("fence", _fence)
    engine.add_render_rule("code_block", _fence)
    engine.add_render_rule("heading_close", _heading_close)
    engine.add_render_rule("image", _image)
    engine.add_render_rule("table_open", _table_open)
    engine.add_render_rule("table_close", _table_close)
    return engine


def _links(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        if token.type in ("link_open", "link_close"):
            yield token
        yield from _links(token.children or ())


def _mend_link(token: Token, link: Linker) -> str:
    """Let a link lead where it may; returns what was written when it may lead nowhere."""
    if token.type == "link_close":
        # Elements are closed in order, and a span in place of a link is no matter to any other.
        return ""
    written = str(token.attrs.get("href", ""))
    if written.lower().startswith(_OUTSIDE):
        token.attrSet("rel", "noopener noreferrer external")
        return ""
    is_other = bool(_SCHEME.match(written)) or written.startswith(("//", "\\", "/\\"))
    target = None if is_other else link(written)
    token.attrs.clear()
    if target is None:
        # An `a` without `href` is no link: browsers neither focus nor follow it.
        token.attrSet("class", "no-link")
        return written
    token.attrSet("href", target)
    return ""


def _without_empty_heads(tokens: Sequence[Token]) -> list[Token]:
    """Leave out heads of tables that Markdown demands and that say nothing."""
    kept: list[Token] = []
    for token in tokens:
        kept.append(token)
        if token.type == "thead_close":
            began = max(at for at, one in enumerate(kept) if one.type == "thead_open")
            if not any(one.content for one in kept[began:]):
                del kept[began:]
    return kept


def _mend_cell(token: Token, content: str) -> None:
    # A style attribute is refused by the page's policy.
    if token.attrs.pop("style", "") == "text-align:right":
        token.attrSet("class", "right")
    if REQUIREMENT.fullmatch(content):
        token.attrSet("id", content.lower())


def _plain(inline: Token) -> str:
    return "".join(
        child.content for child in inline.children or () if child.type in ("text", "code_inline")
    ).strip()


def _fence(
    _: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: EnvType
) -> str:
    language = tokens[at].info.split(maxsplit=1)
    return _code_block(tokens[at].content, language[0] if language else "")


def _code_block(text: str, language: str) -> str:
    name = _LANGUAGES.get(language, language)
    try:
        coloured = highlight(text, get_lexer_by_name(name), _FORMATTER) if name else escape(text)
    except ClassNotFound:
        coloured = escape(text)
    return (
        '<div class="code"><button type="button" class="copy needs-script">Copy</button>'
        f'<pre tabindex="0"><code>{coloured}</code></pre></div>\n'
    )


def _heading_close(
    _: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: EnvType
) -> str:
    token = tokens[at]
    anchor = escape(str(token.meta["anchor"]))
    return f' <a class="anchor" href="#{anchor}" aria-label="Link to here">#</a></{token.tag}>\n'


def _image(
    _: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: EnvType
) -> str:
    # No page of ours loads a picture from anywhere (SITE-3); its words are shown.
    return f"<em>{escape(tokens[at].content)}</em>"


def _table_open(
    _: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: EnvType
) -> str:
    return '<div class="wide" tabindex="0"><table>\n'


def _table_close(
    _: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: EnvType
) -> str:
    return "</table></div>\n"
