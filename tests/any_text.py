"""Any text, for properties: every character but halves of surrogate pairs, which UTF-8 has not.

`st.text()` means the same and asks a codec for each of the million characters first, once in each
process of a run: seconds, where hypothesis has kept nothing of it yet.
"""

from hypothesis import strategies as st

ANY_CHARACTER = st.characters(exclude_categories=["Cs"])


def any_text(min_size: int = 0, max_size: int | None = None) -> st.SearchStrategy[str]:
    """Call this in place of `st.text`, with its words."""
    return st.text(ANY_CHARACTER, min_size=min_size, max_size=max_size)
