"""The colours of the sheet are readable, in the light and in the dark."""

import re
from pathlib import Path

import pytest

SHEET = Path(__file__).parents[3] / "web" / "views" / "static" / "app.css"

# WCAG 2.2 AA asks 4.5 of text, and 3 of large text and of what marks a control.
TEXT, LARGE = 4.5, 3.0
PAIRS = [
    *[
        ("ink", ground, TEXT)
        for ground in ("paper", "surface", "sunken", "green-soft", "plum-soft")
    ],
    *[("muted", ground, TEXT) for ground in ("paper", "surface", "sunken")],
    *[("green", ground, TEXT) for ground in ("paper", "surface", "sunken", "green-soft")],
    *[("amber", ground, TEXT) for ground in ("surface", "paper", "amber-soft")],
    *[("red", ground, TEXT) for ground in ("surface", "paper", "sunken", "red-soft")],
    # Within a row that is restarting, in the colours of any other row.
    *[(color, "amber-soft", TEXT) for color in ("ink", "muted", "red")],
    *[(color, "green-soft", TEXT) for color in ("muted", "red")],
    *[("plum", ground, TEXT) for ground in ("surface", "paper", "plum-soft")],
    ("green-ink", "green", TEXT),
    ("red-ink", "red", TEXT),
    # The word on both composers' buttons.
    ("green-ink", "plum", TEXT),
    ("brass", "paper", LARGE),
]


def palettes() -> dict[str, dict[str, str]]:
    sheet = SHEET.read_text(encoding="utf-8")
    light, dark = sheet.split("@media (prefers-color-scheme: dark)", 1)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in (light, dark)]
    assert all(len(colors) >= 15 for colors in found)
    return {"light": found[0], "dark": found[0] | found[1]}


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("color", "ground", "least"), PAIRS)
def test_text_stands_out_from_its_ground(
    scheme: str, color: str, ground: str, least: float
) -> None:
    # SITE-20, LAB-83
    palette = palettes()[scheme]
    bright, dim = sorted((luminance(palette[color]), luminance(palette[ground])), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= least
