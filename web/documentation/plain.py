"""The documents for programs that read: each page as its Markdown, and `llms.txt`, the list of all.

Links in a page are as its file has them, with `.md` at their end, so they lead to Markdown again.
"""

from web.documentation.library import Library, Page, address

ENDING = ".md"
MARKDOWN = "text/markdown; charset=utf-8"

_SUMMARY = (
    "Supervised actors on trio, an event store on PostgreSQL with sagas and projections, and a "
    "realtime front (HTTP, server-sent events, WebSocket) in one Python process or several."
)


def markdown_of(page: Page) -> str:
    """Call this for a page as text; a program becomes a block of code below its name."""
    if not page.is_code:
        return page.text
    # Longer than any fence a program could have in its strings here: checked by a test of all.
    return f"# {page.title}\n\n````python\n{page.text.rstrip()}\n````\n"


def list_for_readers(library: Library, version: str, origin: str) -> str:
    """Call this for `llms.txt`: every page by folder, with what it is for, and where its text is.

    Addresses are whole where the site knows its own (`origin`), otherwise paths.
    """
    lines = ["# greenroom", "", f"> {_SUMMARY}", "", f"Version {version}.", ""]
    for folder, pages in library.folders():
        lines += [f"## {library.folder_title(folder)}", ""]
        lines += [_line(page, origin) for page in pages]
        lines.append("")
    return "\n".join(lines)


def maybe_page(library: Library, name: str) -> Page | None:
    """Call this for the page whose Markdown `name` asks for; None when it asks for none."""
    return library.pages.get(name.removesuffix(ENDING)) if name.endswith(ENDING) else None


def _line(page: Page, origin: str) -> str:
    purpose = f": {page.purpose}" if page.purpose else ""
    return f"- [{page.title}]({origin}{address(page.name)}{ENDING}){purpose}"
