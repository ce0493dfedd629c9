"""Whether padded batches give the log-probabilities of each reply alone, tested on the user's own encoder-decoder.

The reference is the unmodified model: every reply with its input in a separate forward pass, with the attention in the
code of its family and with its own head. A mask that is not applied, a head that is scaled or shifted differently, or
replies that share an input wrongly appear as a difference. What ``self_test`` says of sharded models holds here, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tunesmith.batch.example import Example
from tunesmith.batch.padded import Integers, assemble_padded, split_inputs_and_replies
from tunesmith.errors import RecipeError
from tunesmith.model.attention_choice import stock_attention
from tunesmith.model.failures import FAMILY_ERRORS, describe_failure
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.verify.differences import largest_difference
from tunesmith.verify.embedding_gradients import (
    GRADIENT_TOKENS,
    add_rows,
    allowed_error,
    gradients_of_embeddings,
    in_float32,
    relative_error,
)
from tunesmith.verify.readings import StockResult
from tunesmith.verify.self_test import advice_on, allowed_difference, check_finite


def probe_trees(tokens: int, longest_input: int, longest_reply: int) -> tuple[TokenTree, ...]:
    """A short input with three replies, and a long input with a long reply, of fixed pseudo-random token ids.

    tokens: the ids are below it.
    longest_input, longest_reply: tokens of the long input and its reply.
    """
    draw = np.random.Generator(np.random.Philox(7))
    short = _probe_tree(draw, tokens, 6, (4, 1, 7))
    long = _probe_tree(draw, tokens, max(longest_input, 7), (max(longest_reply, 2),))
    return short, long


def _probe_tree(draw: np.random.Generator, tokens: int, size: int, replies: tuple[int, ...]) -> TokenTree:
    """An input of ``size`` tokens with replies of the given numbers of tokens."""
    ends = size + np.cumsum(replies)
    starts = ends - np.array(replies)
    ids = draw.integers(0, tokens, int(ends[-1])).astype(np.int32)
    segments = [(0, size, -1), *((start, end, 0) for start, end in zip(starts.tolist(), ends.tolist(), strict=True))]
    spans = [(start, end, size - 1, number, 1) for number, (start, end, _) in enumerate(segments) if number]
    return TokenTree(ids, np.array(segments, np.int32), np.array(spans, np.int32), len(replies))


def reference_log_probabilities(policy: Seq2SeqPolicy, example: Example, start: int) -> StockResult:
    """float32 [targets] for each reply: the stock model on it alone, without our padding and our head.

    start: the token id that the decoder reads before a reply.
    """
    split = split_inputs_and_replies(example)
    found, largest = list[Tensor](), 0.0
    for reply in split.replies:
        values, size = _stock_values(policy, split.inputs[reply.input], reply.ids, start)
        largest = max(largest, size)
        found.append(values)
    return StockResult(found, largest)


def _stock_values(policy: Seq2SeqPolicy, inputs: Integers, reply: Integers, start: int) -> tuple[Tensor, float]:
    """The log-probabilities of one reply, float32 [targets], and the largest absolute value of its logits."""
    target = torch.from_numpy(reply.astype(np.int64)).to(policy.device)
    shifted = torch.cat([target.new_tensor([start]), target[:-1]])[None]
    ids = torch.from_numpy(inputs.astype(np.int64)).to(policy.device)[None]

    def stock() -> Tensor:
        with policy.autocast(), stock_attention(policy.model):
            found: Tensor = policy.model(input_ids=ids, decoder_input_ids=shifted, use_cache=False).logits[0]
            return found.float()

    logits = policy.run(stock)
    log_probability = torch.log_softmax(logits, dim=-1).gather(1, target[:, None])[:, 0]
    return log_probability, float(logits.detach().abs().max())


@torch.no_grad()
def self_test_padded(policy: Seq2SeqPolicy, tokens: int, longest_input: int, longest_reply: int, start: int) -> float:
    """The largest difference of a log-probability between one padded batch and each reply alone.

    Gradients with respect to the embedded tokens are compared as well, on shorter texts.
    tokens: token ids are drawn below it.
    longest_input, longest_reply: tokens of the longest input and reply in training.
    start: the token id that the decoder reads before a reply.
    Raises RecipeError if a difference is too large, or the log-probabilities are NaN or infinite.
    """
    policy.eval()
    examples = [Example(number, tree) for number, tree in enumerate(probe_trees(tokens, longest_input, longest_reply))]
    sizes = (min(longest_input, GRADIENT_TOKENS), min(longest_reply, GRADIENT_TOKENS))
    short = [Example(number, tree) for number, tree in enumerate(probe_trees(tokens, *sizes))]
    try:
        references = [reference_log_probabilities(policy, example, start) for example in examples]
        expected = [each for reference in references for each in reference.values]
        largest = policy.largest(max(reference.largest for reference in references))
        tolerance = allowed_difference(policy.compute, largest, _rounding(policy, examples, start, expected))
        check_finite(policy, "log-probabilities", expected)
        batch = assemble_padded(examples, "messages", start=start, padding=start).to(policy.device)
        found = policy.log_probabilities(batch).log_probability
        difference = policy.largest(largest_difference(found, torch.cat(expected)))
        error, allowed = _gradient_error(policy, short, start)
        if difference <= tolerance and error <= allowed:  # false for NaN
            return difference
        result = f"{difference:.2g}; allowed {tolerance:.1g}"
        if difference <= tolerance:
            result = f"of a gradient {error:.2g} of its size; allowed {allowed:.1g}"
    except FAMILY_ERRORS as error:
        result = describe_failure(error)
    raise RecipeError(
        f"{type(policy.model).__name__} does not give the same log-probabilities in padded batches as alone (largest "
        f"difference {result})",
        where="model.path",
        advice=advice_on(result) or "choose another model; T5 and mT5 as transformers has them are known to be right",
    )


def _gradient_error(policy: Seq2SeqPolicy, examples: Sequence[Example], start: int) -> tuple[float, float]:
    """The relative error of the gradient with respect to the embedded tokens of a padded batch, and what is allowed."""
    exact = _stock_gradient(in_float32(policy), examples, start)
    noise = 0.0
    if policy.compute != torch.float32:
        noise = policy.largest(relative_error(_stock_gradient(policy, examples, start), exact))
    batch = assemble_padded(examples, "messages", start=start, padding=start).to(policy.device)
    (found,) = gradients_of_embeddings(policy, lambda: policy.log_probabilities(batch).log_probability.sum())
    error = policy.largest(relative_error(found, exact))
    return error, allowed_error(policy.compute, noise, policy.model.dtype)


def _rounding(policy: Seq2SeqPolicy, examples: Sequence[Example], start: int, found: Sequence[Tensor]) -> float:
    """How far the log-probabilities of the stock model are from exact ones, as ``self_test`` measures it.

    found: what the stock model gives in the number format of the policy.
    """
    if policy.sharded is None or policy.compute == torch.float32:
        return 0.0
    exact = [reference_log_probabilities(in_float32(policy), example, start).values for example in examples]
    return policy.largest(largest_difference(torch.cat(list(found)), torch.cat([each for of in exact for each in of])))


def _stock_gradient(policy: Seq2SeqPolicy, examples: Sequence[Example], start: int) -> Tensor:
    """float32 [I L + R M, D]: the gradients of each reply alone, added up where a padded batch has its tokens.

    I inputs of at most L tokens come before R replies of at most M tokens.
    """
    split = [split_inputs_and_replies(example) for example in examples]
    width = max(len(ids) for each in split for ids in each.inputs)
    height = max(len(reply.ids) for each in split for reply in each.replies)
    inputs = sum(len(each.inputs) for each in split)
    parts, places = list[Tensor](), list[Tensor]()
    first_input = row = 0
    for each in split:
        for reply in each.replies:
            ids = each.inputs[reply.input]

            def loss(ids: Integers = ids, reply: Integers = reply.ids) -> Tensor:
                return _stock_values(policy, ids, reply, start)[0].sum()

            of_input, of_reply = gradients_of_embeddings(policy, loss)
            parts += [of_input[0], of_reply[0]]
            places.append(torch.arange(len(ids)) + (first_input + reply.input) * width)
            places.append(torch.arange(len(reply.ids)) + inputs * width + row * height)
            row += 1
        first_input += len(each.inputs)
    return add_rows(inputs * width + row * height, parts, places)
