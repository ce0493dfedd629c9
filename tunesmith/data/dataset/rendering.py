"""From rows to token trees, one chunk of rows at a time: read, render, truncate, pack and count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from tunesmith.data.dataset.duplicates import signatures
from tunesmith.data.dataset.faults import RowFault, one_line
from tunesmith.data.dataset.report import SourceCounts
from tunesmith.data.dataset.similarity import Signature
from tunesmith.data.dataset.split import content_key, group_key
from tunesmith.data.dataset.store import Chunk, count_targets, pack
from tunesmith.data.readers.pipeline import Pipeline
from tunesmith.data.readers.reader import Filtered
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.rows import AnyRow, RowGroup
from tunesmith.errors import DataError, RecipeError
from tunesmith.text.formats.registry import build_format
from tunesmith.text.targets import Targets
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.crop import CropCounts, CropSettings, count_crops
from tunesmith.text.tokens.prompts import reserve_reply_tokens
from tunesmith.text.tokens.ranking import drop_incomparable_replies
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, Policy, truncate, truncate_input_and_replies
from tunesmith.text.tree import Tree

REASONS: Mapping[str, str] = {
    "too_long": "longer than the limit",
    "no_target": "nothing to train on",
    "not_ranked": "no two replies to compare",
}


LONGEST_NAME = 60  # characters of the name of a column or key that was not read


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """Everything that decides the tokens of a tree, as plain values that can be pickled and hashed.

    tokenizer: a directory or a hub name.
    format: the name of the prompt format.
    max_length: of a thread, in tokens; with ``max_target_length``, of an input.
    truncation: what happens with longer threads, see ``text.tokens.truncate``.
    options: of the format, as the items of a mapping.
    revision: of a tokenizer on the hub.
    targets: which messages are trained on.
    max_target_length: of a reply, in tokens, for encoder-decoders; None for one limit of the whole thread.
    reserved: how many tokens of ``max_length`` a prompt must leave for its reply; 0 where trees are not prompts.
    """

    tokenizer: str
    format: str
    max_length: int
    truncation: Policy = "drop"
    options: tuple[tuple[str, Any], ...] = ()
    revision: str | None = None
    targets: Targets = "assistant"
    max_target_length: int | None = None
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that a process needs to turn the rows of every source into token trees.

    render: decides the tokens of a tree.
    fingerprint: of the tokenizer with the format's tokens, as it was at the beginning.
    sources: the configurations of the sources.
    signed: whether records are given signatures, to find near duplicates.
    """

    render: RenderSettings
    fingerprint: str
    sources: tuple[SourceConfig, ...]
    signed: bool = False


@dataclass(frozen=True, slots=True)
class RowChunk:
    """Consecutive rows of one source.

    source: its index in ``Work.sources``.
    rows: rows or groups of rows, and the faults of those that could not be parsed.
    """

    source: int
    rows: tuple[AnyRow | RowFault, ...]


class RenderedRecord(NamedTuple):
    """The facts about one token tree within the length limit.

    key: its ``content_key``.
    group: its ``group_key``.
    tokens, targets: that are laid out for it.
    context: its tokens that are only read, each counted once.
    signature: uint32 [2, 128], for near duplicates; None unless ``Work.signed``.
    """

    key: bytes
    group: bytes
    tokens: int
    targets: int
    context: int
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class RenderedChunk:
    """What became of a ``RowChunk``.

    source: its index in ``Work.sources``.
    trees: the token trees, in the order of the rows.
    records: the facts about each token tree.
    counts: of the rows and tokens.
    faults: of the rows that cannot be used, in their order.
    """

    source: int
    trees: Chunk
    records: tuple[RenderedRecord, ...]
    counts: SourceCounts
    faults: tuple[RowFault, ...]


def load_renderer(settings: RenderSettings) -> Renderer:
    """The renderer of these settings, read from disk. Raises RecipeError, MissingInputError, DataError."""
    format = build_format(settings.format, dict(settings.options))
    tokenizer = Tokenizer.load(settings.tokenizer, format.controls, settings.revision)
    renderer = Renderer(format, tokenizer, settings.targets)
    if renderer.opening >= settings.max_length:
        what = f"the first {renderer.opening} tokens of every text fill the limit of {settings.max_length}"
        raise RecipeError(what, where="text.max_length", advice="raise it, or shorten the prefix in text.options")
    return renderer


def render_rows(work: Work, renderer: Renderer, chunk: RowChunk) -> RenderedChunk:
    """Read, render and truncate one chunk of rows. A row that cannot be used becomes a fault and stops nothing."""
    pipeline = Pipeline(work.sources[chunk.source])
    counts = SourceCounts(records=len(chunk.rows), matched=Counter(dict.fromkeys(pipeline.entries, 0)))
    faults: dict[int, RowFault] = {}  # by the index of the row
    read: list[tuple[int, AnyRow, Tree]] = []
    for index, row in enumerate(chunk.rows):
        if isinstance(row, RowFault):
            faults[index] = row
            continue
        try:
            result = pipeline.read(row)
        except DataError as error:
            faults[index] = _fault(row, error)
            continue
        counts.unread.update(one_line(name, LONGEST_NAME) for name in pipeline.find_unread(row))
        if isinstance(result, Filtered):
            counts.rejected[one_line(result.reason, 60)] += 1
        else:
            counts.dropped.update(result.dropped)
            counts.matched.update(pipeline.find_matches(row, result.tree))
            read.append((index, row, result.tree))
    trees: list[TokenTree] = []
    records: list[RenderedRecord] = []
    rendered = renderer.render_many([tree for _, _, tree in read])
    for (index, row, tree), tokens in zip(read, rendered, strict=True):
        try:
            fitted = _fit(work.render, counts, tree, tokens, renderer.opening)
        except DataError as error:
            faults[index] = _fault(row, error)
            continue
        if fitted is not None:
            record = _record(work, renderer.opening, tree, fitted)
            counts.use(record.targets, record.context)
            trees.append(fitted)
            records.append(record)
    counts.bad = len(faults)
    keys = [record.key for record in records]
    sizes = [(record.tokens, record.targets) for record in records]
    packed = pack(trees, [chunk.source] * len(trees), keys, sizes, [record.group for record in records])
    ordered = tuple(faults[index] for index in sorted(faults))
    return RenderedChunk(chunk.source, packed, tuple(records), counts, ordered)


def _fault(row: AnyRow, error: DataError) -> RowFault:
    """The fault of a row, with texts that are safe for a terminal whatever the row has."""
    value = list(row.value.rows) if isinstance(row.value, RowGroup) else row.value
    advice = one_line(error.advice or "fix the record")
    return RowFault(one_line(error.what), error.where or row.place, advice, value)


def _fit(
    settings: RenderSettings, counts: SourceCounts, tree: Tree, rendered: TokenTree | DataError, opening: int
) -> TokenTree | None:
    """The token tree within the length limit, or None, counted, if nothing to train on is left. Raises DataError."""
    if isinstance(rendered, DataError):
        raise rendered
    fitted = limit_tree(settings, rendered, tree.place, opening)
    counts.tokens += len(rendered.ids)
    if isinstance(fitted, DroppedTree):
        counts.rejected[REASONS[fitted.reason]] += 1
        counts.cut += len(rendered.ids)
        return None
    counts.cut += fitted.cut
    return fitted


def limit_tree(settings: RenderSettings, tree: TokenTree, place: str, opening: int) -> TokenTree | DroppedTree:
    """The token tree within the length limit, in which replies can still be compared if they are ranked.

    tree: as it was rendered.
    place: of the record, for the error.
    opening: of the renderer.
    Raises DataError if the truncation is "error" and the tree is too long.
    """
    if settings.targets == "ranked" and not len(tree.replies):
        return DroppedTree("not_ranked")
    fitted = _within_limit(settings, tree, place, opening)
    if isinstance(fitted, DroppedTree) or settings.targets != "ranked":
        return fitted
    compared = drop_incomparable_replies(fitted)
    if compared is not None:
        return compared
    return DroppedTree("not_ranked" if drop_incomparable_replies(tree) is None else "too_long")


def _within_limit(settings: RenderSettings, tree: TokenTree, place: str, opening: int) -> TokenTree | DroppedTree:
    if settings.reserved:
        assert settings.truncation in ("drop", "error"), "refused with the recipe"
        policy: Literal["drop", "error"] = "error" if settings.truncation == "error" else "drop"
        return reserve_reply_tokens(tree, settings.max_length, settings.reserved, policy, place)
    if settings.max_target_length is None:
        return truncate(tree, settings.max_length, settings.truncation, place, opening)
    assert settings.truncation != "left", "refused with the recipe"
    assert settings.truncation != "window", "refused with the recipe"
    limits = (settings.max_length, settings.max_target_length)
    return truncate_input_and_replies(tree, *limits, settings.truncation, place)


def _record(work: Work, opening: int, tree: Tree, fitted: TokenTree) -> RenderedRecord:
    """The facts about a tree whose token tree is within the length limit."""
    laid_out = count_laid_out(work.render, fitted, opening)
    key = content_key(tree)
    signed = signatures(tree) if work.signed else None
    context = laid_out.kept - laid_out.targets
    return RenderedRecord(key, group_key(tree, key), laid_out.tokens, laid_out.targets, context, signed)


def count_laid_out(settings: RenderSettings, fitted: TokenTree, opening: int) -> CropCounts:
    """How many tokens and targets of a tree within the length limit are used.

    fitted: as ``limit_tree`` returned it.
    opening: of the renderer.
    """
    if settings.truncation == "left" or settings.truncation == "window":  # the tree is stored whole
        laid_out = count_crops(fitted, CropSettings(settings.truncation, settings.max_length, opening))
        return replace(laid_out, kept=len(fitted.ids) - fitted.cut)
    return CropCounts(len(fitted.ids), len(fitted.ids), count_targets(fitted))
