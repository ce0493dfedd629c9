"""Does a padded batch of pairs give what each pair gives alone? On the user's own encoder-decoder, before training.

The reference is the unmodified model: every reply with its input in a forward pass of its own, with the model's own head. A
mask that is not kept, a head that is scaled or shifted otherwise, replies that do not share an input rightly show up as a
difference.
"""

from __future__ import annotations

import numpy as np
import torch

from tunesmith.batch.example import Example
from tunesmith.batch.padded import assemble_padded, read_input_replies
from tunesmith.errors import RecipeError
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.verify.self_test import TOLERANCE


def probe_pairs(tokens: int, longest_input: int, longest_reply: int) -> tuple[TokenTree, ...]:
    """A short input with three replies, and a long input with a long reply, of fixed pseudo-random ids below ``tokens``."""
    draw = np.random.Generator(np.random.Philox(7))
    return _pairs(draw, tokens, 6, (4, 1, 7)), _pairs(draw, tokens, max(longest_input, 7), (max(longest_reply, 2),))


def _pairs(draw: np.random.Generator, tokens: int, size: int, replies: tuple[int, ...]) -> TokenTree:
    ends = size + np.cumsum(replies)
    starts = ends - np.array(replies)
    ids = draw.integers(0, tokens, int(ends[-1])).astype(np.int32)
    segments = [(0, size, -1), *((start, end, 0) for start, end in zip(starts.tolist(), ends.tolist(), strict=True))]
    spans = [(start, end, size - 1, number, 1) for number, (start, end, _) in enumerate(segments) if number]
    return TokenTree(ids, np.array(segments, np.int32), np.array(spans, np.int32), len(replies))


def reference_log_probabilities(policy: Seq2SeqPolicy, example: Example, start: int) -> list[torch.Tensor]:
    """The stock model on every reply alone, without our padding and without our head: float32 [targets] each."""
    pairs = read_input_replies(example)
    found = []
    for own, reply, _ in pairs.replies:
        wanted = torch.from_numpy(reply.astype(np.int64)).to(policy.device)
        shifted = torch.cat([wanted.new_tensor([start]), wanted[:-1]])
        inputs = torch.from_numpy(pairs.inputs[own].astype(np.int64)).to(policy.device)
        with policy.autocast():
            logits = policy.model(input_ids=inputs[None], decoder_input_ids=shifted[None], use_cache=False).logits[0]
        found.append(torch.log_softmax(logits.float(), dim=-1).gather(1, wanted[:, None])[:, 0])
    return found


@torch.no_grad()
def self_test_padded(policy: Seq2SeqPolicy, tokens: int, longest_input: int, longest_reply: int, start: int) -> float:
    """The largest difference of a log-probability, in one padded batch against alone. Raises RecipeError if it is too large.

    tokens: ids to draw from. start: the id that a reply begins after.
    """
    policy.eval()
    examples = [Example(number, tree) for number, tree in enumerate(probe_pairs(tokens, longest_input, longest_reply))]
    measured = "it fails to run"
    try:
        expected = torch.cat(
            [each for example in examples for each in reference_log_probabilities(policy, example, start)]
        )
        batch = assemble_padded(examples, "messages", start=start, padding=start).to(policy.device)
        difference = float((policy.log_probabilities(batch).log_probability - expected).abs().max())
        if difference <= TOLERANCE[policy.compute]:
            return difference
        measured = f"{difference:.2g}"
    except (ValueError, TypeError, IndexError, RuntimeError, NotImplementedError) as error:
        # Whatever a family's code raises here is a reason to refuse it.
        measured = " ".join(str(error).split())[:200]
    raise RecipeError(
        f"{type(policy.model).__name__} does not give the same log-probabilities in padded batches as alone (largest "
        f"difference {measured}; allowed {TOLERANCE[policy.compute]:g})",
        where="model.path",
        advice="choose another model; T5 and mT5 as transformers has them are known to be right",
    )
