"""Readable names for guests: the same browser session is always the same animal."""

from functools import lru_cache
from hashlib import blake2b

_FIRST = (
    "amber ash autumn brave bright calm cedar clear clever coral crisp dusky eager early "
    "fair fleet gentle golden grand green happy hazel honest indigo ivory jade jolly keen "
    "kind lemon light lively lunar maple mellow merry misty noble ocean olive opal patient "
    "pearl plucky proud quick quiet rapid rosy ruby sage silver sleek solar steady sunny "
    "swift tidy velvet violet warm wise"
).split()
_LAST = (
    "badger bear beaver bison crane deer dolphin dove eagle falcon ferret finch fox gecko "
    "goose hare hawk hedgehog heron horse ibis jay kestrel koala lark lemur lion llama lynx "
    "magpie marten mole moose moth newt ocelot orca osprey otter owl panda parrot pelican "
    "penguin pony puffin quail rabbit raven robin salmon seal sparrow squirrel stork swan "
    "tapir tern tiger toad trout turtle walrus whale"
).split()


# Who reads a page is named on it, at each.
@lru_cache(1024)
def guest_name(session_id: str) -> str:
    """Call this to give a guest's session a readable name, the same at each visit.

    About 350,000 names: short to read, and the session id cannot be found from one.
    """
    digest = blake2b(session_id.encode(), digest_size=8, person=b"gr-guest").digest()
    first, last = _FIRST[digest[0] % len(_FIRST)], _LAST[digest[1] % len(_LAST)]
    number = int.from_bytes(digest[2:4]) % 90 + 10
    return f"{first} {last} {number}"
