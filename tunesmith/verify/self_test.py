"""Whether the attention of a model follows the layout of packed batches, tested on the user's own model before
training.

The reference is the unmodified model: every root-to-leaf thread in a separate pass, with the attention in the code of
its family and with its own head. Absolute learned positions, ALiBi, sliding windows or soft caps that the layout cannot
express appear as a difference. In order of preference a batch is read as one tree, thread by thread, or thread by
thread with the family's own attention; if none is exact, the model is refused.

Every kernel that a run can meet is tested, with its gradient: a batch that branches and one that does not. Where
a kernel fails and a plain computation of the same layout does not, the run stops: the fault is not in the model, and
another layout would only hide it.

The weights of a sharded model are gathered layer by layer, for the packed batch and for the stock model alike, in the
number format of the policy; for the exact gradients of the stock model they are gathered in float32. In 16 bits the
stock model itself then rounds what its layers add up, where autocast keeps it in float32. The difference that this
rounding makes is measured, and ``NOISE`` times as much is allowed, up to ``LARGEST_ROUNDING``. All processes run the
same probes together, and each decides by the largest difference that any of them has found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from tunesmith.errors import RecipeError
from tunesmith.model.attention import segment_attention
from tunesmith.model.attention_choice import stock_attention, use_stock_attention
from tunesmith.model.body import check_causal
from tunesmith.model.failures import FAMILY_ERRORS, describe_failure
from tunesmith.model.policy import LayoutKind, Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.wrapper import ModelWrapper
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.verify.differences import max_or_nan
from tunesmith.verify.embedding_gradients import (
    GRADIENT_TOKENS,
    NOISE,
    add_rows,
    allowed_error,
    gradients_of_embeddings,
    in_float32,
    relative_error,
)
from tunesmith.verify.probes import Probe, Probes, build_probes
from tunesmith.verify.readings import USUAL_LOGIT, BackboneT, StockComparison, ThreadLogProbabilities, ThreadStates

LAYOUTS: tuple[LayoutKind, ...] = ("tree", "threads")
# Largest difference of a log-probability that number formats explain, for logits up to 10 and above; a broken layout
# differs by 0.01 to 10. Rounding and the effect of a broken layout both shrink with the logits, so for smaller logits,
# as of a model with small random weights, a smaller difference is allowed.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
LARGEST_ROUNDING = 1.0  # that is allowed because the stock model was measured to round as much
LEAST_SHARE = 0.01  # of the tolerance, for logits close to 0: the logarithm of the sum is rounded, too
KERNEL_ADVICE = (
    "report this; FlexAttention needs Triton and a C compiler; model.layout=threads trains without this kernel, slower"
)
DETERMINISTIC = "deterministic"  # part of every message of PyTorch about an operation that has no such form
DETERMINISTIC_ADVICE = "append train.deterministic=false; a run on a GPU then does not repeat to the bit"


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What the self-test found.

    layout: the layout in which batches may be read.
    difference: the largest difference between packed batch and separate threads, in the first layout that the model
        can run.
    stock_attention: whether the model was changed to its stock attention, because ours is not exact for it.
    kernels: the attention kernels that were tested and will be used, in words.
    rejected: why faster layouts cannot be used; empty where the first one can.
    """

    layout: LayoutKind
    difference: float
    stock_attention: bool = False
    kernels: str = ""
    rejected: str = ""

    @property
    def description(self) -> str:
        """The layout and the attention, for the user."""
        return f"{self.layout}, with its stock attention" if self.stock_attention else self.layout


def allowed_difference(compute: torch.dtype, largest: float, rounding: float = 0.0) -> float:
    """The largest difference of a log-probability that rounding explains.

    compute: the data type of the matrix products.
    largest: the largest absolute value of the logits.
    rounding: the difference that was measured of the stock model in this format from the exact one.
    """
    tolerance = TOLERANCE[compute] * min(1.0, max(LEAST_SHARE, largest / USUAL_LOGIT))
    return max(tolerance, min(LARGEST_ROUNDING, NOISE * rounding))


@torch.no_grad()
def self_test(policy: Policy, tokens: int, longest: int, wanted: LayoutKind | None = None) -> SelfTestResult:
    """Find the layout that is exact for this model, with our attention or else with its stock attention.

    Raises RecipeError if none is exact, and if a kernel fails.
    tokens: token ids are drawn below it.
    longest: tokens of the longest thread in training: a sliding window or a table of positions that is shorter must
        appear.
    wanted: the only layout to try; None for all.
    """
    return _SelfTest(policy, ThreadLogProbabilities(), tokens, longest).find_layout(wanted)


@torch.no_grad()
def self_test_scalars(
    policy: ScalarPolicy, tokens: int, longest: int, wanted: LayoutKind | None = None
) -> SelfTestResult:
    """The same for a reward model, by its hidden states at the end of every thread.

    Raises RecipeError if no layout is exact, and if a kernel fails. tokens, longest, wanted: as of ``self_test``.
    """
    return _SelfTest(policy, ThreadStates(), tokens, longest).find_layout(wanted)


def check_finite(policy: ModelWrapper, what: str, values: Sequence[Tensor]) -> None:
    """Raises RecipeError if numbers of the stock model are NaN or infinite. what: the numbers, for the message."""
    if not all(bool(torch.isfinite(each).all()) for each in values):
        raise RecipeError(
            f"the {what} of {type(policy.model).__name__} are NaN or infinite, also in the stock model",
            where="model",
            advice="its weights hold NaN or are too large for model.dtype; load or export the model again",
        )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one way to compute gives.

    difference: from the stock model; infinite where it fails to run.
    fault: why it cannot be used; empty where it can.
    kernel: the attention kernel with which the fault was found.
    """

    difference: float
    fault: str = ""
    kernel: str = ""


class _SelfTest(Generic[BackboneT]):
    """The test of one model, which is put into evaluation mode.

    policy: the model.
    reading: what is compared.
    tokens, longest: as of ``self_test``.
    """

    def __init__(self, policy: BackboneT, reading: StockComparison[BackboneT], tokens: int, longest: int) -> None:
        self.policy: BackboneT = policy
        self.reading: StockComparison[BackboneT] = reading
        self.longest = longest
        self.probes = build_probes(tokens, longest)
        self.short = build_probes(tokens, min(longest, GRADIENT_TOKENS))
        policy.eval()
        policy.run(lambda: check_causal(policy.model))
        try:
            reference = policy.run(lambda: reading.stock(policy, self.probes.threads))
            check_finite(policy, reading.what, reference.values)
            self.expected, self.gradients = reference.values, self._stock_gradients(in_float32(policy))
            noise = 0.0 if policy.compute == torch.float32 else self._noise()
            rounding = self._rounding()
        except FAMILY_ERRORS as error:
            reason = describe_failure(error)
            raise _refuse(policy, f"fails on a single thread: {reason}", advice_on(reason)) from error
        self.allowed = allowed_difference(policy.compute, policy.largest(reference.largest), rounding)
        self.allowed_gradient = allowed_error(policy.compute, policy.largest(noise), policy.model.dtype)

    def find_layout(self, wanted: LayoutKind | None) -> SelfTestResult:
        """The first way to compute that is exact. Raises RecipeError if there is none, and if a kernel fails."""
        rejected: dict[str, str] = {}
        first = math.inf
        for layout in (wanted,) if wanted else LAYOUTS:
            policy = self.policy.with_layout(layout)
            outcome = self._try(policy)
            first = first if math.isfinite(first) else outcome.difference
            if not outcome.fault:
                return SelfTestResult(layout, first, kernels=self._describe(policy), rejected=_list(rejected))
            self._check_kernel(policy, outcome)
            rejected[layout] = outcome.fault
        if wanted != "tree":
            policy = self.policy.with_layout("threads")
            with stock_attention(policy.model):
                outcome = self._try(policy)
            if not outcome.fault:
                use_stock_attention(policy.model)
                first = first if math.isfinite(first) else outcome.difference
                return SelfTestResult("threads", first, True, "attention of its family", _list(rejected))
            rejected["threads with its stock attention"] = outcome.fault
        raise _refuse(
            self.policy,
            f"does not give the same {self.reading.what} in our batches as alone, for threads of up to {self.longest} "
            f"tokens (largest difference by layout {_list(rejected)}; allowed {self.allowed:.1g})",
            "set model.layout to auto" if wanted == "tree" else advice_on(_list(rejected)),
        )

    def _probes(self, policy: BackboneT, probes: Probes) -> dict[str, Probe]:
        """A batch for each of the kernels that batches of a run meet, by the name of the kernel."""
        if policy.layout == "threads":
            return {"scaled-dot-product attention thread by thread": probes.branching}
        batches = (probes.linear, probes.branching)
        return {policy.kernel(probe.batch.to(policy.device).layout).name: probe for probe in batches}

    def _try(self, policy: BackboneT) -> _Outcome:
        """Compare one way to compute with the stock model. A family may refuse it: bloom builds its own mask."""
        largest, kernel = 0.0, ""
        try:
            for kernel, probe in self._probes(policy, self.probes).items():
                found = self.reading.packed(policy, probe)
                difference = policy.largest(self.reading.difference(found, self.expected))
                largest = max_or_nan((largest, difference))
                if not difference <= self.allowed:  # also for NaN
                    return _Outcome(largest, f"{difference:.2g}", kernel)
            for kernel, probe in self._probes(policy, self.short).items():
                error, allowed = self._gradient_error(policy, probe), self.allowed_gradient
                if not error <= allowed:
                    return _Outcome(
                        largest, f"gradient wrong by {error:.2g} of its size, allowed {allowed:.1g}", kernel
                    )
        except FAMILY_ERRORS as failure:
            return _Outcome(math.inf, describe_failure(failure), kernel)
        return _Outcome(largest)

    def _check_kernel(self, policy: BackboneT, outcome: _Outcome) -> None:
        """Raises RecipeError where the model follows a layout that a kernel does not compute."""
        other = policy.with_kernels(segment_attention)
        if policy.layout != "tree" or outcome.kernel in self._probes(other, self.probes) or self._try(other).fault:
            return
        raise RecipeError(
            f"{outcome.kernel} is wrong on {policy.device}: {outcome.fault} (another attention in the same layout is "
            "right)",
            where="model.layout",
            advice=advice_on(outcome.fault) or KERNEL_ADVICE,
        )

    def _describe(self, policy: BackboneT) -> str:
        """The kernels in words: the first is for batches without branches."""
        return " and, where replies branch, ".join(self._probes(policy, self.probes))

    def _stock_gradients(self, policy: BackboneT) -> list[Tensor]:
        """float32 [n, D] for every short thread: the gradient of its numbers with respect to its embedded tokens."""
        return [self._stock_gradient(policy, thread) for thread in self.short.threads]

    def _stock_gradient(self, policy: BackboneT, thread: TokenTree) -> Tensor:
        def loss() -> Tensor:
            return self.reading.total(policy.run(lambda: self.reading.stock(policy, [thread])).values)

        (gradient,) = gradients_of_embeddings(policy, loss)
        return gradient[0].float()

    def _noise(self) -> float:
        """The relative error of the gradient of the stock model in the number format of the policy."""
        probe = self.short.branching
        rounded, exact = (
            add_rows(probe.batch.tokens, gradients, probe.tokens)
            for gradients in (self._stock_gradients(self.policy), self.gradients)
        )
        return relative_error(rounded, exact)

    def _rounding(self) -> float:
        """The difference of the stock model that is read from weights in 16 bits, from the exact one.

        It is measured where the weights are float32 and are gathered in fewer bits; 0 for others.
        """
        if self.policy.sharded is None or self.policy.compute == torch.float32:
            return 0.0
        policy = in_float32(self.policy)
        exact = policy.run(lambda: self.reading.stock(policy, self.probes.threads))
        return self.policy.largest(self.reading.difference(self.expected, exact.values))

    def _gradient_error(self, policy: BackboneT, probe: Probe) -> float:
        """The relative error of the gradient with respect to the embedded tokens of a batch."""
        leaves = gradients_of_embeddings(policy, lambda: self.reading.total(self.reading.packed(policy, probe)))
        rows = [leaf[0] for leaf in leaves]
        found = rows[0] if policy.layout == "tree" else add_rows(probe.batch.tokens, rows, probe.tokens)
        return policy.largest(relative_error(found, add_rows(probe.batch.tokens, self.gradients, probe.tokens)))


def _list(rejected: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in rejected.items())


def advice_on(reason: str) -> str | None:
    """What to do about a failure whose message is known."""
    return DETERMINISTIC_ADVICE if DETERMINISTIC in reason else None


def _refuse(policy: ModelWrapper, reason: str, advice: str | None = None) -> RecipeError:
    return RecipeError(
        f"{type(policy.model).__name__} {reason}",
        where="model.layout",
        advice=advice or "try a smaller text.max_length or a family that docs/families.md lists as trained",
    )
