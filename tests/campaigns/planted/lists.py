"""All planted faults, by the guard that has to catch them."""

from __future__ import annotations

from collections.abc import Mapping

from tests.campaigns.planted import numbers, outputs, runs, texts
from tests.campaigns.planted.fault import PlantedFault

GUARDS: Mapping[str, tuple[PlantedFault, ...]] = {
    "checkpoints": runs.CHECKPOINTS,
    "resuming": runs.RESUMING,
    "locks": runs.LOCKS,
    "records": runs.RECORDS,
    "masks": texts.MASKS,
    "control tokens": texts.CONTROL_TOKENS,
    "proof": texts.PROOF,
    "token store": texts.STORE,
    "batches": numbers.BATCHES,
    "losses and gradients": numbers.LOSSES,
    "gates": numbers.GATES,
    "self-test": numbers.SELF_TEST,
    "finite numbers": numbers.FINITE,
    "choice of the best": numbers.SELECTION,
    "intervals": numbers.INTERVALS,
    "exports": outputs.EXPORTS,
    "uploads": outputs.UPLOADS,
    "secrets": outputs.SECRETS,
    "references": outputs.REFERENCES,
}
