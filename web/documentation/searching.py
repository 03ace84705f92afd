"""The search of the documents: which sections a question finds, and in which order. Pure.

Rule 1: nothing is asked but whether a word stands in a text, so whatever somebody types is a word.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from web.documentation.markdown import Section

# What a word is worth where it is found; a phrase as it stands counts as one word more.
_IN_HEADING, _IN_TITLE, _IN_TEXT = 8.0, 4.0, 1.0
# Of a question asked in words of its own not every word need be there, but most of them; each one
# that lacks costs its part of the whole, three times over.
_PART_OVER, _LACKING = 0.5, 3
# A word somewhere in a table of a hundred rows says less than one in a paragraph.
_LENGTH_USUAL = 2500
# The second section of a page, the third and so on: other pages have their turn before.
_AGAIN = 0.6
# A table of all there is answers who knows its name; whoever asks in words wants a page to read.
_LOOKED_UP, _LOOKED_UP_PART = ("reference/api/", "reference/requirements"), 0.5
# Further words of a question of 100 characters say no more, and each is looked for everywhere.
_WORDS_MAX = 16

# Where a word stands: in the heading, in what the page is about, in the text below.
_SAID, _ABOVE, _TEXT = 4, 2, 1

_WORD = re.compile(r"\w+")
# Words that people ask with, and that say nothing of what they ask for.
_ASKING = frozenset(
    "a an and are as at be by can could do does for from get had has have how i if in into is it "
    "its let make me my of off on one or our out should so some that the their them there "
    "they this to up us was we what when where which who why will with without would you your"
    .split()
)  # fmt: skip
_ENDINGS = ("ings", "ing", "ies", "ied", "es", "ed", "s", "e", "y")
_STEM_MIN = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """A section as it is searched: what its page is about, its heading and its text, folded."""

    name: str
    section: Section
    above: str
    said: str
    text: str


@dataclass(frozen=True, slots=True)
class Index:
    """All sections, in the order of the pages."""

    entries: tuple[Entry, ...]

    def find(self, query: str) -> list[Entry]:
        """Call this for the sections that answer `query`, the best first.

        A heading counts for more than the page it stands on, and that for more than the text below;
        a rare word for more than a common one, and a page for most by its best section.
        """
        said = _WORD.findall(query.casefold())
        words = _asked(said)
        if not words:
            return []
        places = [[_place(one, word) for one in self.entries] for word in words]
        weights = [self._weight(of_word) for of_word in places]
        phrase = " ".join(said) if len(said) > 1 else ""
        # Most sections have none of the words, and are not worth more than this look.
        scored = [
            (_points(one, row, weights, phrase), one)
            for one, row in zip(self.entries, zip(*places, strict=True), strict=True)
            if any(row)
        ]
        scored.sort(key=lambda pair: -pair[0])
        seen, found = Counter[str](), list[tuple[float, Entry]]()
        for points, one in scored:
            if not points:
                break
            part = _LOOKED_UP_PART if one.name.startswith(_LOOKED_UP) else 1.0
            found.append((points * part * _AGAIN ** seen[one.name], one))
            seen[one.name] += 1
        found.sort(key=lambda pair: -pair[0])
        return [one for _, one in found]

    def _weight(self, places: Sequence[int]) -> float:
        # In a heading everywhere or nowhere: between one and some four times.
        among = sum(place & (_SAID | _TEXT) != 0 for place in places)
        return 1.0 + math.log10(len(self.entries) / among) if among else 1.0


def index_of(pages: Iterable[tuple[str, str, Sequence[Section]]]) -> Index:
    """Call this with the name of each page, what it is about, and its sections."""
    return Index(
        tuple(
            Entry(
                name,
                section,
                about.casefold(),
                section.heading.text.casefold(),
                section.text.casefold(),
            )
            for name, about, sections in pages
            for section in sections
        )
    )


def _asked(said: Sequence[str]) -> list[str]:
    words = [_stem(word) for word in said if word not in _ASKING]
    return list(dict.fromkeys(words or said))[:_WORDS_MAX]


def _stem(word: str) -> str:
    """Cut what a word ends with, so that `renaming` finds `rename`: both hold `renam`."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_MIN:
            return word.removesuffix(ending)
    return word


def _place(one: Entry, word: str) -> int:
    """Tell where a word stands; each text is looked through once for it."""
    if word in one.said:
        return _SAID
    return (_ABOVE if word in one.above else 0) | (_TEXT if word in one.text else 0)


def _points(one: Entry, places: Sequence[int], weights: Sequence[float], phrase: str) -> float:
    count, points, is_in_section = 0, 0.0, False
    for place, weight in zip(places, weights, strict=True):
        if place & _SAID:
            points += _IN_HEADING * weight
            is_in_section = True
        elif place & _ABOVE:
            points += _IN_TITLE * weight
        elif place & _TEXT:
            points += _IN_TEXT * weight * min(1.0, _LENGTH_USUAL / len(one.text))
            is_in_section = True
        else:
            continue
        count += 1
    if count <= len(places) * _PART_OVER:
        return 0.0
    if one.section.heading.level == 1:
        points += _IN_TITLE
    elif not is_in_section:
        return 0.0  # nothing but what its page says already
    if phrase:
        points += _IN_HEADING * (phrase in one.said) + _IN_TEXT * (phrase in one.text)
    return points * (count / len(places)) ** _LACKING
