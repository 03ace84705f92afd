"""The frame of every page: who one is on it, what a link to it shows, and what is asked by name."""

from __future__ import annotations

import re
from ipaddress import ip_network

from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.settings import Settings

ORIGIN = "https://greenroom.example"
BEHIND_PROXY = Settings(port=0, public_origin=ORIGIN, trusted_proxies=(ip_network("127.0.0.0/8"),))
_NAME = re.compile(r'<span class="viewer">.*?<bdi>(.*?)</bdi>', re.DOTALL)


def name_on(text: str) -> str:
    found = _NAME.search(text)
    assert found, text[:500]
    return found[1]


async def test_an_error_page_names_its_guest_as_every_page_does() -> None:  # SITE-4
    async with open_whole_site() as site:
        visitor = site.visitor()

        def visit() -> tuple[str, str]:
            home, lost = visitor.get("/"), visitor.get("/no-such-page")
            assert (home.status, lost.status) == (200, 404)
            return name_on(home.text), name_on(lost.text)

        on_home, on_error = await in_thread(visit)
        assert on_home == on_error


async def test_what_browsers_and_robots_ask_for_by_name_is_there() -> None:  # SITE-4
    async with open_whole_site() as site:
        visitor = site.visitor()

        def visit() -> None:
            icon, robots = visitor.get("/favicon.ico"), visitor.get("/robots.txt")
            assert (icon.status, icon.headers["content-type"]) == (200, "image/x-icon")
            assert icon.body
            assert robots.status == 200
            assert "User-agent: *" in robots.text
            assert "Disallow: /events" in robots.text
            assert "set-cookie" not in {**icon.headers, **robots.headers}
            assert (
                visitor.request("POST", "/robots.txt", headers={"origin": site.url}).status == 405
            )

        await in_thread(visit)


def picture_on(site: WholeSite, path: str) -> list[str]:
    return re.findall(r'property="og:image" content="([^"]+)"', site.visitor().get(path).text)


async def test_a_link_to_the_site_shows_a_picture_where_the_site_knows_its_address() -> None:
    # SITE-4
    async with open_whole_site() as unknown:
        assert await in_thread(lambda: picture_on(unknown, "/")) == []
    async with open_whole_site(settings=BEHIND_PROXY) as site:

        def visit() -> None:
            # The proxy's answer cannot be had here: the page is asked for under the site's name.
            page = site.visitor().get("/", host="greenroom.example")
            found = re.findall(r'property="og:image" content="([^"]+)"', page.text)
            assert len(found) == 1, page.text[:800]
            assert found[0].startswith(f"{ORIGIN}/static/og")
            picture = site.visitor().get(found[0].removeprefix(ORIGIN), host="greenroom.example")
            assert (picture.status, picture.headers["content-type"]) == (200, "image/png")

        await in_thread(visit)
