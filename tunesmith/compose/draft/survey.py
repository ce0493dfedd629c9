"""One pass over the data with the model's tokenizer: how many records there are, and how long they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from tunesmith.compose.components.data import render_settings
from tunesmith.compose.components.tokenizer import build_renderer
from tunesmith.compose.draft.least_limits import find_least_limits
from tunesmith.data.dataset.building import Progress
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.readers.pipeline import Pipeline
from tunesmith.data.readers.reader import Filtered
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.rows import AnyRow
from tunesmith.data.sources.source import find_source, read_rows
from tunesmith.errors import DataError
from tunesmith.recipe.schema import Recipe
from tunesmith.text.formats.registry import ENCODER_DECODER
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree

LIMIT = 20_000
"""The most records that are read; there may be more."""

AT_ONCE = 256  # trees that are rendered with few calls of the tokenizer


@dataclass(slots=True)
class Survey:
    """What the records of a source are.

    lengths: for every usable record the tokens of its longest thread, or of the encoder's input.
    replies: for every usable record the tokens of its longest reply.
    least: for every usable record the lowest limits with which it is trained on, see ``find_least_limits``.
    untrained: records that have nothing to train on, such as two equal replies to compare.
    filtered: records that a filter of the reader drops.
    bad: records that cannot be read or rendered.
    first_bad: the first of these.
    share: the part of the source that was read, 1.0 for all.
    """

    lengths: list[int] = field(default_factory=list)
    replies: list[int] = field(default_factory=list)
    least: list[tuple[int, ...]] = field(default_factory=list)
    untrained: int = 0
    filtered: int = 0
    bad: int = 0
    first_bad: DataError | None = None
    share: float = 1.0

    @property
    def read(self) -> int:
        """How many records were read."""
        return len(self.lengths) + self.untrained + self.filtered + self.bad

    @property
    def usable(self) -> int:
        """How many usable records the whole source has; an estimate unless all of it was read."""
        return self.in_source(len(self.lengths))

    def in_source(self, records: int) -> int:
        """How many such records the whole source has. records: of those that were read."""
        return round(records / self.share) if self.share else records

    def count_trained(self, limits: Sequence[int]) -> int:
        """How many of the records that were read are trained on. limits: as in ``least``."""
        return sum(all(need <= limit for need, limit in zip(least, limits, strict=True)) for least in self.least)

    @property
    def is_complete(self) -> bool:
        return self.share >= 1.0


def survey(config: SourceConfig, recipe: Recipe, progress: Progress, limit: int = LIMIT) -> Survey:
    """Read and render the records of a source.

    recipe: with the tokenizer and the prompt format.
    progress: callback of the work.
    Raises MissingInputError or DataError for a whole file, and everything that loading the tokenizer raises.
    """
    renderer, settings = build_renderer(recipe), render_settings(recipe)
    found = Survey()
    waiting = _trees(config, found, progress, limit)
    while trees := list(islice(waiting, AT_ONCE)):
        for rendered in renderer.render_many(trees):
            if isinstance(rendered, DataError):
                _add_bad(found, rendered)
            else:
                _add_lengths(found, rendered, renderer, settings)
    return found


def _trees(config: SourceConfig, found: Survey, progress: Progress, limit: int) -> Iterator[Tree]:
    pipeline = Pipeline(config)
    records = 0
    for row in pipeline.group(read_rows(find_source(config.path, config.split, config.config, config.key))):
        if records == limit:
            found.share = _share(row)
            return
        records += 1
        try:
            if isinstance(row, DataError):
                raise row
            progress(int(1000 * row.share), 1000, f"{records:,} records")
            result = pipeline.read(row)
        except DataError as error:
            _add_bad(found, error)
            continue
        if isinstance(result, Filtered):
            found.filtered += 1
        else:
            yield result.tree


def _share(row: AnyRow | DataError) -> float:
    return 1.0 if isinstance(row, DataError) else min(1.0, max(row.share, 1e-6))


def _add_bad(found: Survey, error: DataError) -> None:
    found.bad += 1
    found.first_bad = found.first_bad or error


def _add_lengths(found: Survey, tokens: TokenTree, renderer: Renderer, settings: RenderSettings) -> None:
    least = find_least_limits(settings, tokens, renderer.opening)
    if least is None:
        found.untrained += 1
        return
    reply = max((int(end - start) for start, end, *_ in tokens.spans), default=0)
    length = max((len(tokens.thread(end)) for end in tokens.ends()), default=0)
    found.lengths.append(length - reply if renderer.format.name in ENCODER_DECODER else length)
    found.replies.append(reply)
    found.least.append(least)
