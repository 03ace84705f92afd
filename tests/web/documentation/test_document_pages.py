"""The documents on the running site: the hub, the pages, and everything that is none."""

from __future__ import annotations

import gzip
import html
import re

import pytest

from tests.docs.pages import ROOT
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.site.pages import program_version

DOCS = ROOT / "docs"

# SITE-15: whatever is tried, only names of pages are looked for.
NO_PAGES = [
    "/docs/",
    "/docs/nothing",
    "/docs/start/first-actor/",
    "/docs/../web/app.py",
    "/docs/%2e%2e/LICENSE",
    "/docs/%2e%2e%2fLICENSE",
    "/docs/..%5cLICENSE",
    "/docs/start/%2e%2e/start/first-actor",
    "/docs/start/first-actor%00",
    "/docs/.hidden",
    "/docs/examples/__init__.py",
    "/docs/%ff",
    "/docs/" + "a" * 4000,
]


async def test_the_hub_has_paths_pages_and_a_search() -> None:
    async with open_whole_site() as site:

        def visit() -> None:
            hub = site.visitor().get("/docs")
            assert hub.status == 200
            assert hub.text.index("Just arrived") < hub.text.index("All pages")  # SITE-17
            assert re.search(r"\d+ min", hub.text)
            assert 'aria-current="page">Docs' in hub.text  # SITE-15
            assert "@get('/events'" not in html.unescape(hub.text)  # SITE-4: no stream
            assert "greenroom-open" not in hub.text
            assert 'action="/docs/search"' in hub.text  # DOC-6
            # The address before a search had one of its own still finds.
            for place in ("/docs/search", "/docs"):
                found = site.visitor().get(f"{place}?q=mailbox+full")
                assert 'href="/docs/how_to/overflow-policy"' in found.text
            assert site.visitor().get("/docs/search").status == 200
            none = site.visitor().get("/docs/search?q=%3Cscript%3Exyzzy")
            assert (none.status, "<script>x" in none.text) == (200, False)
            assert "Nothing found" in none.text
            assert site.visitor().get("/docs/search?q=" + "a" * 101).status == 400
            assert "/docs/licence" in hub.text  # SITE-4: the foot of every page
            assert "As it is." in site.visitor().get("/docs/licence").text

        await in_thread(visit)


async def test_a_page_is_rendered_once_and_sent_to_all() -> None:
    async with open_whole_site() as site:

        def visit() -> None:
            pages = [site.visitor().get("/docs/start/first-actor") for _ in range(2)]
            assert [page.status for page in pages] == [200, 200]
            assert "<h1" in pages[0].text
            assert 'id="an-actor"' in pages[0].text
            assert '<span class="k">class</span>' in pages[0].text
            names = [re.search(r"here as </span><bdi>(.*?)</bdi>", page.text) for page in pages]
            assert len({name[1] for name in names if name}) == 2
            assert "next=%2Fdocs%2Fstart%2Ffirst-actor" in pages[0].text
            packed = site.visitor().request(
                "GET", "/docs/start/first-actor", headers={"accept-encoding": "gzip"}
            )
            assert packed.headers["content-encoding"] == "gzip"
            assert b'id="an-actor"' in gzip.decompress(packed.body)
            assert len(site.web._renderer.filled) == 1
            assert f"· {program_version()}</span>" in pages[0].text  # DOC-8

        await in_thread(visit)


async def test_programs_read_the_list_and_each_page_as_text() -> None:
    async with open_whole_site() as site:  # DOC-8

        def visit() -> None:
            listed = site.visitor().get("/llms.txt")
            assert listed.headers["content-type"].startswith("text/plain")
            assert program_version() in listed.text
            found = re.search(r"\((\S*/docs/start/first-actor\.md)\)", listed.text)
            assert found
            text = site.visitor().get("/docs/start/first-actor.md")
            assert (text.status, text.headers["content-type"].split(";")[0]) == (
                200, "text/markdown",
            )  # fmt: skip
            assert text.text == (DOCS / "start" / "first-actor.md").read_text()
            assert text.headers["cache-control"] == "public, max-age=3600"
            assert "set-cookie" not in text.headers
            page = site.visitor().get("/docs/start/first-actor").text
            assert 'type="text/markdown" href="/docs/start/first-actor.md"' in page
            program = site.visitor().get("/docs/examples/counter.py.md").text
            assert program.startswith("# counter.py\n\n````python\n")
            changed = site.visitor().get("/docs/news/what-changed")
            assert 'id="010"' in changed.text
            for gone in ("/docs/nothing.md", "/docs/.md", "/docs/news/what-changed.md.md"):
                assert site.visitor().get(gone).status == 404, gone

        await in_thread(visit)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("/docs/how_to", "/docs#how_to"),
        ("/docs/reference/api/", "/docs#reference-api"),
        ("/docs/reference/api/actors/", "/docs/reference/api/actors"),
        ("/docs/README.md", "/docs"),
    ],
)
async def test_a_link_copied_from_the_files_leads_there(asked: str, meant: str) -> None:
    async with open_whole_site() as site:
        answer = await in_thread(lambda: site.visitor().get(asked))
        assert (answer.status, answer.headers.get("location")) == (308, meant)


async def test_what_is_no_page_is_not_found() -> None:
    async with open_whole_site() as site:  # SITE-15

        def visit() -> None:
            for path in NO_PAGES:
                answer = site.visitor().get(path)
                assert answer.status in {400, 404}, (path, answer.status)
                assert "root:" not in answer.text

        await in_thread(visit)


async def told(site: WholeSite, path: str) -> tuple[int, str]:
    answer = await in_thread(lambda: site.visitor().get(path))
    return answer.status, answer.text


async def test_where_they_are_not_installed_no_page_leads_there() -> None:
    async with open_whole_site(has_documents=False) as site:  # SITE-15
        home = await told(site, "/")
        assert (home[0], "/docs" in home[1]) == (200, False)
        for path in ("/docs", "/docs/start/first-actor.md", "/docs/search?q=x", "/llms.txt"):
            status, text = await told(site, path)
            assert status == 404
            assert "not installed" in text
