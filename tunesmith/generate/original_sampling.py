"""What the library of the original programs made of the arguments of a sampling configuration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tunesmith.errors import UsageError
from tunesmith.generate.sampling import SamplingParameters

LIBRARY_TOP_K = 50
"""The ``top_k`` of transformers' ``generate`` for a configuration that draws and does not name one (4.31 and 5.23)."""

LIBRARY_MAX_LENGTH = 20
"""The ``max_new_tokens`` of transformers 5.23 for a configuration that does not name one."""


@dataclass(frozen=True, slots=True)
class OriginalSampling:
    """A sampling configuration of an original, as it took effect.

    parameters: how replies are generated.
    filled_in: the values that the library added, which the configuration does not name.
    without_effect: the arguments that the library ignored with the others.
    """

    parameters: SamplingParameters
    filled_in: Mapping[str, int]
    without_effect: tuple[str, ...]


def original_sampling(arguments: Mapping[str, Any]) -> OriginalSampling:
    """Read the ``generate_args`` of a configuration as transformers' ``generate`` does.

    A configuration without ``top_k`` draws from the 50 most likely tokens, whatever else it says. null means the value
    of the library, too.
    Raises UsageError for an argument that is not supported or has an impossible value.
    """
    known = [field.name for field in fields(SamplingParameters)]
    for name in arguments:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
            raise UsageError(f"there is no setting {name!r}", where="sampling", advice=advice)
    named = {name: value for name, value in arguments.items() if value is not None}
    filled_in = {} if "max_new_tokens" in named else {"max_new_tokens": LIBRARY_MAX_LENGTH}
    with_library = SamplingParameters(**{"do_sample": False, "top_k": LIBRARY_TOP_K, **filled_in, **named})
    reads_top_k = with_library.do_sample or with_library.is_contrastive
    if "top_k" in named or not reads_top_k:
        parameters = replace(with_library, top_k=named.get("top_k", 0))
    else:
        parameters, filled_in = with_library, {"top_k": LIBRARY_TOP_K, **filled_in}
    return OriginalSampling(parameters, filled_in, tuple(name for name in named if name in _unread(parameters)))


def _unread(parameters: SamplingParameters) -> set[str]:
    """The arguments that have no effect with these parameters."""
    unread = set() if parameters.do_sample else {"temperature", "top_k", "top_p", "typical_p"}
    return unread - {"top_k"} if parameters.is_contrastive else unread | {"penalty_alpha"}
