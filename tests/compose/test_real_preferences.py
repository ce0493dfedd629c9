"""Real preferences, from the file to the batch: the proofs find nothing, at any length limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.batch.example import Example
from tunesmith.compose.models.families import PACKED
from tunesmith.compose.proof import MaskProof
from tunesmith.data.readers.pipeline import read_trees
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.ranking import drop_incomparable_replies
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import truncate

FORGIVING = {"empty": "drop", "on_equal": "drop"}
SOURCES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "ultrafeedback": ("preference/ultrafeedback_binarized-400.jsonl", "preference-text", "llama/tulu", FORGIVING),
    "hh": ("preference/hh_harmless-300.jsonl", "hh", "llama/tulu", FORGIVING),
    "sharegpt": ("preference/dpo_en_sharegpt-300.json", "preference-sharegpt", "pythia/oasst", FORGIVING),
    "oasst": ("oasst/oasst1_en_validation-90.trees.jsonl", "oasst", "pythia/oasst", {"keep": "rankings"}),
}
MOST = 80


@pytest.mark.parametrize("source", SOURCES)
def test_real_preferences_are_compared_as_they_are_ranked(source: str, real_data: Callable[[str], Path]) -> None:
    path, reader, how, options = SOURCES[source]
    tokenizer, name = how.split("/")
    where, format = real_data(f"tokenizers/{tokenizer}"), build_format(name, {})
    renderer = Renderer(format, Tokenizer.load(str(where), format.controls), "ranked")
    trees = list(read_trees([SourceConfig(source, str(real_data(path)), reader, options=options)], MOST))
    proof = MaskProof()
    proof.add(renderer, trees)
    assert (proof.records, dict(proof.faults)) == (min(MOST, len(trees)), {})
    rendered = [tree for tree in renderer.render_many(trees) if isinstance(tree, TokenTree) and len(tree.replies)]
    for limit in (10_000, 400, 150):
        examples: list[Example] = []
        for tree in rendered:
            cut = truncate(tree, limit, "right")
            left = drop_incomparable_replies(cut) if isinstance(cut, TokenTree) else None
            if left is not None:
                known = {"reference": np.arange(len(left.replies), dtype=np.float32) + len(examples)}
                examples.append(Example(len(examples), left, columns=known))
        assert limit < 10_000 or len(examples) > 0.9 * len(rendered) > 50
        for batch in PACKED.collate(examples, "messages", 2000):
            mine = [examples[number] for number in batch.examples]
            assert PACKED.find_fault(mine, batch, "messages") is None
