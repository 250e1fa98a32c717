"""Hypothesis strategies for the content of files that somebody changed."""

import copy

from hypothesis import strategies as st

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["../x", "/dev/zero", "hq/a.png", "\x1b[31m", "\ud800", "[b]", "bicubic", "x" * 300, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def _places(value, place=()):
    yield place
    for name, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(one, (*place, name))


@st.composite
def changed(draw, value):
    """A copy of plain values, a dictionary, in which up to three parts are replaced or missing."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = [place for place in _places(value) if place]
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        part = value
        for name in above:
            part = part[name]
        if draw(st.booleans()):
            part[last] = draw(VALUES)
        else:
            del part[last]
    return value


@st.composite
def torn(draw, content):
    """Bytes that are cut off, have some bytes replaced, or are something else."""
    kind = draw(st.sampled_from(["cut", "replaced", "other", "zeros"]))
    if kind == "other":
        return draw(st.binary(max_size=200))
    if kind == "zeros":
        return b"\0" * draw(st.integers(0, len(content)))
    place = draw(st.integers(0, len(content)))
    return content[:place] + (b"" if kind == "cut" else draw(st.binary(max_size=9)) + content[place + 5 :])
