"""What a page of the API reference is made of; the pages stand in `api_subjects.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Subject:
    """One part of a package: what it is about, and the names in it.

    A name is one of the package's front page, or has its module before it.
    """

    title: str
    names: tuple[str, ...]
    intro: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """The page of one package."""

    file: str
    package: str
    title: str
    intro: str
    subjects: tuple[Subject, ...]
    # What is not public but stands in signatures: module and name.
    words: tuple[str, ...] = ()
    # The packages whose `__all__` stands here whole; without, it is the one it is called by.
    packages: tuple[str, ...] | None = None

    @property
    def whole(self) -> tuple[str, ...]:
        return (self.package,) if self.packages is None else self.packages


WRITTEN: Final = (
    "Written by `python -m tests.docs.api` from signatures and docstrings: mend it there. Times "
    "are seconds, deadlines are times of trio's clock. Call it all in the trio thread, unless it "
    "says otherwise."
)
