"""Boxes for property tests: on a coarse grid, so that edges meet, boxes coincide and labels repeat."""

from hypothesis import strategies as st

from mmreward.verifiers.boxes import Box

GRID = st.integers(0, 20).map(lambda n: n / 20)


@st.composite
def boxes(draw):
    x1, x2 = sorted(draw(st.lists(GRID, min_size=2, max_size=2, unique=True)))
    y1, y2 = sorted(draw(st.lists(GRID, min_size=2, max_size=2, unique=True)))
    return Box(x1, y1, x2, y2, draw(st.sampled_from(["a", "b"])))


truths = st.lists(boxes(), min_size=1, max_size=5)
founds = st.lists(st.none() | boxes(), max_size=6)
"""None is a box that cannot be read."""
