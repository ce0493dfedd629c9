"""Correctness on a GPU: versions, attention kernels, the self-test, and runs that are stopped and continued."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor

from tests.campaigns.gpu_figures import Campaign, Figure
from tests.model.kernels import kernels_on_any_device
from tests.model.padded import START, small_t5
from tests.model.trees import VOCABULARY, random_tree, small_model
from tests.runs import digests
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.batch.example import Example
from tunesmith.batch.packed import Layout, assemble_packed
from tunesmith.batch.threads import split_into_threads
from tunesmith.compose import train_recipe
from tunesmith.errors import StoppedError
from tunesmith.model.attention import AttentionLayout, prepare, segment_attention
from tunesmith.model.attention_scores import PLAIN, ScoreTerms, repeat_heads
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.verify.self_test import self_test
from tunesmith.verify.self_test_padded import self_test_padded

KERNEL_TOLERANCE = 2e-2
HEADS: Sequence[tuple[str, int, int, int]] = (
    ("Pythia 2.8B", 32, 32, 80),
    ("Pythia 12B", 40, 40, 128),
    ("Llama, grouped", 32, 8, 128),
    ("stories260K", 8, 4, 8),
)
"""Name, heads of queries, heads of keys, units of a head."""
LENGTHS, SHORT_LENGTHS = (127, 128, 1025, 8192), (33,)
SHAPE_160M = "{architecture: ARCHITECTURE, hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12, " + (
    "intermediate_size: 3072}"
)
T5_SHAPE = (
    "{architecture: t5, d_model: 768, d_kv: 64, d_ff: 2048, num_layers: 12, num_heads: 12, "
    "feed_forward_proj: gated-gelu, tie_word_embeddings: false}"
)
RUN_WORDS = ("train.steps=6", "train.evaluate_every=3", "train.save_every=null", "model.dtype=bfloat16")


def versions(campaign: Campaign) -> Iterator[Figure]:
    """What is installed."""
    yield Figure(
        "Python, torch, transformers", f"{platform.python_version()}, {torch.__version__}, {transformers.__version__}"
    )
    if campaign.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(campaign.device)
        name = torch.cuda.get_device_name(campaign.device)
        yield Figure("GPU, CUDA", f"{name}, {torch.version.cuda}")
        yield Figure(
            "free memory", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB", "at least 95 %", free > 0.95 * total
        )


def kernels(campaign: Campaign) -> Iterator[Figure]:
    """Both kernels against scaled-dot-product attention in float32, forward and gradient."""
    for name, heads, groups, units in HEADS:
        for branches in (False, True):
            lengths = SHORT_LENGTHS if campaign.rehearsal else LENGTHS
            worst = max(_kernel_difference(campaign, tokens, branches, (heads, groups, units)) for tokens in lengths)
            kernel = "FlexAttention" if branches else "varlen"
            target = f"at most {KERNEL_TOLERANCE:g}"
            yield Figure(f"{kernel}, {name}", f"{worst:.1e}", target, worst <= KERNEL_TOLERANCE)


def layout_of(tokens: int, branches: bool) -> Layout:
    """A row of at least so many tokens, of trees or of threads."""
    examples, total, seed = [], 0, 0
    while total < tokens:
        tree = random_tree(seed, size=max(4, tokens // 8))
        trees = [tree] if branches else [thread.tree for thread in split_into_threads(tree)]
        examples += [Example(len(examples) + place, each) for place, each in enumerate(trees)]
        total, seed = total + sum(len(each.ids) for each in trees), seed + 1
    return assemble_packed(examples, "messages").layout


def _kernel_difference(campaign: Campaign, tokens: int, branches: bool, sizes: tuple[int, int, int]) -> float:
    """The largest relative difference of result and gradients."""
    layout, (heads, groups, units) = layout_of(tokens, branches), sizes
    layout = Layout(layout.sizes, layout.ancestors, layout.trees, layout.until.to(campaign.device))
    draw = torch.Generator().manual_seed(tokens)
    states = [torch.randn(1, count, layout.tokens, units, generator=draw) for count in (heads, groups, groups)]
    above = torch.randn(1, heads, layout.tokens, units, generator=draw).to(campaign.device)

    def results(attend: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        inputs = [each.to(campaign.device).bfloat16().to(dtype).requires_grad_() for each in states]
        mixed = attend(*inputs, None)
        return [mixed.float(), *(each.float() for each in torch.autograd.grad(mixed.float(), inputs, above))]

    choose = rehearsed_kernels if campaign.rehearsal else prepare
    found = results(choose(layout, torch.bfloat16).attend, torch.bfloat16)
    exact = results(segment_attention(layout, torch.float32).attend, torch.float32)
    return max(float(((each - other).norm() / other.norm()).detach()) for each, other in zip(found, exact, strict=True))


@dataclass(frozen=True, slots=True)
class RehearsedKernel:
    """The rule of a kernel, for heads that share keys as well. kernel: for one key for each head."""

    kernel: AttentionLayout

    @property
    def name(self) -> str:
        """Of the kernel."""
        return self.kernel.name

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, terms: ScoreTerms = PLAIN
    ) -> Tensor:
        """See ``AttentionLayout``."""
        key, value = (repeat_heads(states, query.shape[1]) for states in (key, value))
        return self.kernel.attend(query, key, value, scaling, terms)


def rehearsed_kernels(layout: Layout, dtype: torch.dtype) -> AttentionLayout:
    """The choice of kernels on CUDA, computed by their rules."""
    return RehearsedKernel(kernels_on_any_device(layout, dtype))


def self_tests(campaign: Campaign) -> Iterator[Figure]:
    """The test of every start, with gradients, which ends with an error if a kernel is wrong."""
    choose = rehearsed_kernels if campaign.rehearsal else prepare
    for architecture in ("gpt_neox", "llama"):
        for dtype in (torch.float32, torch.bfloat16):
            model = small_model(architecture).to(campaign.device)
            found = self_test(Policy(model, compute=dtype).with_kernels(choose), VOCABULARY, 30)
            name = f"self-test, {architecture}, {str(dtype).removeprefix('torch.')}"
            yield Figure(name, f"{found.difference:.1e}", "layout tree", found.layout == "tree")
    policy = Seq2SeqPolicy(small_t5().to(campaign.device))
    yield Figure("self-test, t5", f"{self_test_padded(policy, VOCABULARY, 30, 20, START):.1e}", "no error", True)


Make = Callable[..., LoadedRecipe]
RUNS: Sequence[tuple[str, Make, str, tuple[str, ...]]] = (
    ("sft", small_recipe, "gpt_neox", ()),
    ("sft, 8-bit moments", small_recipe, "llama", ("train.moments=8bit", "train.gradients=bfloat16")),
    ("dpo", preference_recipe, "llama", ()),
    ("t5, adafactor", small_recipe, "t5", ("train.optimizer={kind: adafactor}",)),
    ("ppo", ppo_recipe, "llama", ()),
)


def runs(campaign: Campaign, directory: Path) -> Iterator[Figure]:
    """Every method: a run, and the same stopped and continued, which ends with the same bits."""
    for name, make, architecture, words in RUNS:
        root = directory / name.replace(" ", "-").replace(",", "")
        shape = () if campaign.rehearsal or make is ppo_recipe else (f"model.init={_shape(architecture)}",)
        weights = ("train.weights=split",) if campaign.rehearsal else ()
        given = [*RUN_WORDS, *weights, *words, *shape]
        same = _ends_with_the_same_bits(root, make, architecture, given)
        yield Figure(f"{name}, stopped and continued", "same bits" if same else "other bits", "same bits", same)
        shutil.rmtree(root)


def _shape(architecture: str) -> str:
    return T5_SHAPE if architecture == "t5" else SHAPE_160M.replace("ARCHITECTURE", architecture)


def _ends_with_the_same_bits(root: Path, make: Make, architecture: str, words: Sequence[str]) -> bool:
    whole = train_recipe(make(root, [*words, f"run.directory={root}/whole"], architecture=architecture)).directory
    stopped = f"run.directory={root}/stopped"
    with suppress(StoppedError):
        train_recipe(make(root, [*words, stopped, "train.stop_after=2"], architecture=architecture))
    again = train_recipe(make(root, [*words, stopped], architecture=architecture)).directory
    return digests(again) == digests(whole)
