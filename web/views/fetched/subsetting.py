"""Cut a variable font down to one weight and the letters that headings are set in.

A program of its own, `python subsetting.py FONT OUTPUT`, run with fontTools on its path, which is
not installed with us. The same font and the same fontTools give the same bytes.
"""

import sys

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from fontTools.varLib.instancer import instantiateVariableFont

# A display cut, for the sizes of headings (17 to 67 px), in the weight that headings have.
PLACE = {"opsz": 32, "wght": 600}
# English, what typesetting adds to it, and the letters of neighbours' names.
LETTERS = [*range(0x20, 0x7F), *map(ord, "\u00a0·×–—‘’“”…ÄÖÜßäöüàçèéêñ")]
# Pairs that need a narrower gap, and figures that stand in columns.
FEATURES = ["kern", "lnum", "tnum"]
# Copyright and licence stay in the file, as its licence asks.
NAMES = [0, 13, 14]


def subset(source: str, output: str) -> None:
    """Call this to write what headings need of the font `source` to `output`."""
    font = instantiateVariableFont(TTFont(source, recalcTimestamp=False), PLACE)
    options = Options()
    options.hinting = False  # screens that need it are gone
    options.layout_features = FEATURES
    options.name_IDs = NAMES
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=LETTERS)
    subsetter.subset(font)
    font.save(output)


if __name__ == "__main__":
    subset(*sys.argv[1:])
