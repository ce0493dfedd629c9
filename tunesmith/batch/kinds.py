"""The two kinds of batch: threads in one flat row for causal models, pairs in padded rows for encoder-decoders."""

from __future__ import annotations

from functools import partial

from tunesmith.batch.assemble import micro_batches
from tunesmith.batch.pairs import pair_micro_batches
from tunesmith.batch.pairs_proof import prove_pairs
from tunesmith.batch.proof import prove_batch
from tunesmith.batch.protocols import Assembly

FLAT = Assembly(micro_batches, prove_batch)


def pairs(start: int, padding: int) -> Assembly:
    """start: the id that a decoder begins after. padding: the id of empty places."""
    return Assembly(
        partial(pair_micro_batches, start=start, padding=padding),
        partial(prove_pairs, start=start),
    )
