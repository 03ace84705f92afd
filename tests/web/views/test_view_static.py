"""Static files carry the hash of their content in their name, and their true type."""

import re
from pathlib import Path

import pytest

import web.views.static
from web.views import StaticFile, load, table
from web.views.static import (
    DATASTAR,
    HEADING_FONT,
    SHEET,
    UnknownFile,
    UnservableFile,
    slim,
)

STATIC_FILES = Path(web.views.static.__file__).with_name("static")


def test_a_name_changes_with_every_byte() -> None:
    # SITE-3, SEC-68
    one, other = table({"app.css": b"a{}"}), table({"app.css": b"a{ }"})
    assert one.url("app.css") != other.url("app.css")
    assert one.url("app.css") == table({"app.css": b"a{}"}).url("app.css")


def test_an_address_leads_to_its_bytes_and_true_type() -> None:
    # SEC-69
    files = table({"app.css": b"a{}", "app.js": b"1", "favicon.svg": b"<svg/>"})
    for name, content_type in (
        ("app.css", "text/css; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("favicon.svg", "image/svg+xml; charset=utf-8"),
    ):
        address = files.url(name)
        assert address.startswith("/static/")
        found = files.find(address.removeprefix("/static/"))
        assert found is not None
        assert found.content_type == content_type


@pytest.mark.parametrize("name", ["app.css", "", "../words.py", "app.000000000000.css"])
def test_no_other_name_is_answered(name: str) -> None:
    assert table({"app.css": b"a{}"}).find(name) is None


def test_a_template_cannot_name_a_file_that_is_not_there() -> None:
    with pytest.raises(UnknownFile) as caught:
        table({}).url("app.css")
    assert caught.value.name == "app.css"


def test_a_type_the_site_does_not_serve_is_refused() -> None:
    with pytest.raises(UnservableFile):
        table({"page.php": b""})


def test_what_only_readers_of_the_source_need_is_left_out() -> None:
    script = b"// why\nlet a = 1; // kept\n\n  if (a) {\n    // b\n    c();\n  }\n"
    assert slim("a.js", script) == b"let a = 1; // kept\nif (a) {\nc();\n}\n"
    style = b"/* of two\n lines */\na { b: c; }\n  @media x { /* y */\n    d { e: f; }\n  }\n"
    assert slim("a.css", style) == b"a{b:c;}\n@media x{\nd{e:f;}\n}\n"
    rules = b"a :is(b, c) + d { e: calc(1px - 2px) url(x); }\n"
    assert slim("a.css", rules) == b"a :is(b,c) + d{e:calc(1px - 2px) url(x);}\n"
    assert slim("a.css", b'a { b: "c: d { } ; e"; }\n') == b'a{b:"c: d { } ; e";}\n'
    assert slim("favicon.svg", b"<svg>\n  <g/>") == b"<svg>\n  <g/>"


def test_no_script_has_a_text_over_several_lines() -> None:
    """Indentation and lines that look like comments would be part of it, and are left out."""
    scripts = sorted(STATIC_FILES.glob("*.js"))
    assert len(scripts) > 5
    for script in scripts:
        for line in script.read_text(encoding="utf-8").splitlines():
            assert line.count("`") % 2 == 0, (script.name, line)
            assert "/*" not in line.split("//")[0], (script.name, line)
    for style in STATIC_FILES.glob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"""["'][^"'\n]*/\*""", text), style.name


def test_the_package_files_and_the_browser_runtime_are_loaded(tmp_path: Path) -> None:
    # SITE-3
    runtime = tmp_path / "datastar-core.js"
    runtime.write_bytes(b"export{}")
    files = load(runtime)
    assert set(files.hashed_names) == {
        "app.css",
        "app.js",
        "chat.css",
        "chat.js",
        "connection.js",
        "copy.js",
        "crash.js",
        "docs.css",
        "docs.js",
        "learn.js",
        "demos.css",
        "demos.js",
        "favicon.ico",
        "favicon.svg",
        "flows.js",
        "forms.css",
        "home.css",
        "home.js",
        "inspector.css",
        "lab.css",
        "lab_chat.css",
        "lab_chat.js",
        "lab.js",
        "live.js",
        "og.png",
        "timeline.css",
        "tree.css",
        "tree.js",
        "panels.css",
        "burst.js",
        "panels.js",
        "passkeys.js",
        "work.css",
        DATASTAR,
    }
    # Two scripts in one file share no names.
    joined = files.find(files.hashed_names["live.js"])
    assert joined is not None
    assert len(re.findall(rb"^\{$", joined.body, re.MULTILINE)) == 2
    assert files.find(files.hashed_names[DATASTAR]) == StaticFile(
        b"export{}", "text/javascript; charset=utf-8"
    )


def test_a_missing_browser_runtime_stops_the_start(tmp_path: Path) -> None:
    # SEC-68
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.js")


def test_the_sheet_and_the_script_name_no_other_host_and_build_no_markup(tmp_path: Path) -> None:
    # SITE-3, SEC-64
    runtime = tmp_path / "datastar.js"
    runtime.write_bytes(b"")
    files = load(runtime)
    for name in ("app.css", "app.js", "connection.js"):
        found = files.find(files.hashed_names[name])
        assert found is not None
        text = found.body.decode()
        if name == "app.css":
            # The drawn word: one path, that refers to nothing. The name of its kind is no address.
            (drawn,) = re.findall(r'url\("data:image/svg\+xml,([^"]*)"\)', text)
            kind = "xmlns='http://www.w3.org/2000/svg'"
            assert re.fullmatch(
                rf"%3Csvg {kind} viewBox='[-0-9 ]+'%3E%3Cpath d='[-a-zA-Z0-9 ]+'/%3E%3C/svg%3E",
                drawn,
            )
            text = text.replace(f'url("data:image/svg+xml,{drawn}")', "")
        for forbidden in ("http:", "https:", "@import", "url(", "innerHTML", "insertAdjacent"):
            assert forbidden not in text, (name, forbidden)
        for forbidden in ("eval(", "Function(", 'setAttribute("style', "document.write"):
            assert forbidden not in text, (name, forbidden)


def test_motion_stops_for_who_asks() -> None:
    # SITE-20, LAB-83
    sheet = Path(__file__).parents[3] / "web" / "views" / "static" / "app.css"
    text = sheet.read_text(encoding="utf-8")
    assert "prefers-reduced-motion: reduce" in text
    assert "prefers-color-scheme: dark" in text


def test_headings_have_a_font_of_ours_where_there_is_one(tmp_path: Path) -> None:
    # SITE-3, SEC-68: the name of the font in the sheet is the one with the hash, and of this host.
    runtime, font = tmp_path / "datastar.js", tmp_path / "cut.ttf"
    runtime.write_bytes(b"")
    font.write_bytes(b"letters")
    files = load(runtime, font=font)
    address = files.url(HEADING_FONT).removeprefix("/static/")
    assert files.find(address) == StaticFile(b"letters", "font/ttf")
    sheet = files.files[files.hashed_names[SHEET]].body.decode()
    # All but the drawn word, which is no file.
    assert re.findall(r'url\((?!"data:)([^)]*)\)', sheet) == [address]
    assert "font-display:swap" in sheet
    without = load(runtime).files
    assert not any(name.endswith(".ttf") or b"@font-face" in without[name].body for name in without)
