"""The models that are served, by name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tunesmith.apps.model_opening import check_models, open_run
from tunesmith.generate.engine import Engine
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.names import LONGEST_NAME
from tunesmith.serve.engine.worker import EngineThread
from tunesmith.serve.log_entry import Log, LogEntry
from tunesmith.serve.refusals import RefusedRequest


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model with its thread.

    name: what clients call it.
    engine: of the model.
    sampling: what the model declares; requests override it.
    thread: generates its replies.
    created: when it was opened, in seconds since 1970.
    """

    name: str
    engine: Engine
    sampling: SamplingParameters
    thread: EngineThread
    created: int

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt, so that prompt and reply are separate."""
        return bool(self.engine.model.config.is_encoder_decoder)


def new_served_model(
    name: str, engine: Engine, sampling: SamplingParameters, limits: LoadLimits, log: Log
) -> ServedModel:
    """A model with a thread that is not started yet. Searches are not served, so their settings are left out."""
    chosen = replace(sampling, num_beams=1, penalty_alpha=0.0)
    return ServedModel(name, engine, chosen, EngineThread(engine, limits, log), int(time.time()))


class ServedModels:
    """The models that are served, in the order in which they were named."""

    def __init__(self, models: Sequence[ServedModel] = ()) -> None:
        self._models = {model.name: model for model in models}
        self._uses = dict.fromkeys(self._models)  # names, the one that was asked for last at the end

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._models.values()))  # models may be added while somebody waits between two

    def add(self, model: ServedModel) -> None:
        """Serve another model, whose thread was started."""
        self._models[model.name] = model
        self._uses[model.name] = None

    def remove(self, name: str) -> None:
        """Serve a model no longer."""
        del self._models[name]
        del self._uses[name]

    def by_last_use(self) -> list[ServedModel]:
        """The models, the one that a program or the chat asked for longest ago first."""
        return [self._models[name] for name in self._uses]

    def find(self, name: str) -> ServedModel:
        """The model of a name. Raises RefusedRequest."""
        model = self._models.get(name)
        if model is None:
            what = f"The model {name[:LONGEST_NAME]!r} does not exist. GET /v1/models lists those that do."
            raise RefusedRequest(404, what, param="model", code="model_not_found")
        del self._uses[name]
        self._uses[name] = None
        return model


def open_models(paths: Mapping[str, str], format: str | None, limits: LoadLimits, log: Log) -> list[ServedModel]:
    """Load the models of some directories.

    paths: name -> directory of a run or model.
    format: the prompt format of the models that declare none.
    log: gets what is loaded, and errors of the threads.
    Raises UsageError for a reward model, and as ``open_run``.
    """

    def notice(text: str) -> None:
        log(LogEntry(text))

    formats = check_models(list(paths.values()), format, notice)
    found = []
    for (name, path), chosen in zip(paths.items(), formats, strict=True):
        engine, sampling = open_run(path, chosen, notice)
        if engine.notice is not None:
            notice(f"{name}: {engine.notice}")
        if sampling.is_search:
            notice(f"{name}: its sampling is a search, which is not served; replies are generated without it")
        found.append(new_served_model(name, engine, sampling, limits, log))
    return found
