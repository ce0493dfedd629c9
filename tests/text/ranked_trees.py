"""Random trees with ranked replies: few texts and ranks, so that ties and equal replies are common."""

from __future__ import annotations

from hypothesis import strategies as st

from tunesmith.text.tree import Message, Tree

TEXTS = ["a", "a ", "b", "the cat", "the cat sat", "the cat sat on", "No.", "é 한"]
RANKS = [None, 0, 0, 1, 2]


@st.composite
def ranked_trees(draw: st.DrawFn, *, single: bool = False, most: int = 9) -> Tree:
    """single: one question with replies, for formats and models of single turns."""
    parents, depths = [-1], [0]
    for _ in range(draw(st.integers(1, most - 1))):
        path = [len(parents) - 1]
        while parents[path[-1]] >= 0:
            path.append(parents[path[-1]])
        parent = 0 if single else draw(st.sampled_from(path))
        parents.append(parent)
        depths.append(depths[parent] + 1)
    messages = []
    for depth in depths:
        text = draw(st.sampled_from(TEXTS))
        if depth % 2 == 0:
            messages.append(Message("user", text))
            continue
        score = draw(st.sampled_from([None, -1.5, 3.0]))
        trained = draw(st.sampled_from([None, None, None, True, False]))
        messages.append(Message("assistant", text, rank=draw(st.sampled_from(RANKS)), score=score, trained=trained))
    return Tree(tuple(messages), tuple(parents), place="here")
