"""The table of the model card of databricks/dolly-v2-7b: the printed values, by which it is sorted, ascending."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.benchmark.suites import DOLLY

ITEMS: Mapping[str, int] = {
    **{"openbookqa": 500, "arc_easy": 2376, "winogrande": 1267, "hellaswag": 10042},
    **{"arc_challenge": 1172, "piqa": 1838, "boolq": 3270},
}
"""How many items the tasks of the card have; with other numbers a result is not comparable with it."""
_ROWS: Mapping[str, tuple[float, ...]] = {
    "EleutherAI/pythia-2.8b": (0.348, 0.585859, 0.589582, 0.591217, 0.323379, 0.73395, 0.638226),
    "EleutherAI/pythia-6.9b": (0.368, 0.604798, 0.608524, 0.631548, 0.343857, 0.761153, 0.6263),
    "databricks/dolly-v2-3b": (0.384, 0.611532, 0.589582, 0.650767, 0.370307, 0.742655, 0.575535),
    "EleutherAI/pythia-12b": (0.364, 0.627104, 0.636148, 0.668094, 0.346416, 0.760065, 0.673394),
    "EleutherAI/gpt-j-6B": (0.382, 0.621633, 0.651144, 0.662617, 0.363481, 0.761153, 0.655963),
    "databricks/dolly-v2-12b": (0.408, 0.63931, 0.616417, 0.707927, 0.388225, 0.757889, 0.568196),
    "databricks/dolly-v2-7b": (0.392, 0.633838, 0.607735, 0.686517, 0.406997, 0.750816, 0.644037),
    "databricks/dolly-v1-6b": (0.41, 0.62963, 0.643252, 0.676758, 0.384812, 0.773667, 0.687768),
    "EleutherAI/gpt-neox-20b": (0.402, 0.683923, 0.656669, 0.7142, 0.408703, 0.784004, 0.695413),
}
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    model: dict(zip(DOLLY, values, strict=True)) for model, values in _ROWS.items()
}
"""Model -> task -> printed value. The harness of that time was version 0.3."""
