"""Files of sampling configurations, in the form of Open-Assistant's: those that are built in, and those of a user.

{"default": {"generate_args": {...}, "pre_text": ..., ...}, "configurations": [{"name": "k50", ...}, ...]}
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith.data.sources.strict_json import RecordError, decode_at, type_name
from tunesmith.errors import DataError, UsageError
from tunesmith.files import looks_like_path, read_object

BUILT_IN = Path(__file__).with_name("sampling_files")
SUFFIX = ".json"
TEXTS = ("name", "pre_text", "human_name", "bot_name")
KEYS = (*TEXTS, "generate_args", "add_prefix_tokens", "system_profile")
PROFILE_LABELS = ("quality", "humor", "creativity")
PROFILE_KEYS = ("lang", "length", *PROFILE_LABELS)
UNSAFE = re.compile(r"[^\w-]")
"""What names of files should not have; letters of every script are kept."""
ADVICE = "correct the file; docs/evidence.md describes its form"

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SamplingConfiguration:
    """One configuration, merged with the default of its file.

    name: by which a report refers to it.
    generate_args: the arguments of transformers' ``generate``.
    own_args: those of them that the configuration has itself, not from the default.
    pre_text: what is written before a prompt; empty for nothing.
    human_name, bot_name: how the speakers are called in a plain text; empty if the file does not say it.
    add_prefix_tokens: whether ``pre_text`` is between the tokens of a prefix, in a format that has them.
    system_profile: properties that the reply should have: lang, length, and quality, humor, creativity from 0 to 1.
    """

    name: str = ""
    generate_args: Values = field(default_factory=dict)
    own_args: Values = field(default_factory=dict)
    pre_text: str = ""
    human_name: str = ""
    bot_name: str = ""
    add_prefix_tokens: bool = False
    system_profile: Values = field(default_factory=dict)

    def samples(self, wanted: int) -> int:
        """How many replies to a prompt are generated: one, if the configuration itself has do_sample=false.

        Where ``do_sample`` is false in the default of the file only, the original repeats the same reply.
        """
        return min(wanted, 1) if self.own_args.get("do_sample") is False else wanted


@dataclass(frozen=True, slots=True)
class SamplingFile:
    """The configurations of one file that are used.

    stem: the name of the file without its suffix, for the name of a report.
    configurations: in the order of the file.
    name: of the file, for messages.
    """

    stem: str
    configurations: tuple[SamplingConfiguration, ...]
    name: str


def built_in_names() -> list[str]:
    """The names of the files that are built in."""
    return sorted(path.stem for path in BUILT_IN.glob(f"*{SUFFIX}"))


def open_sampling_file(name: str) -> SamplingFile:
    """The configurations that a name means.

    name: a built-in file (``noprefix``), a path, or either of them followed by ``:`` and some of its configurations
        (``noprefix:k50,greedy``), whose names the stem then has as well.

    Raises UsageError for an unknown name, MissingInputError, and DataError for a file that cannot be used.
    """
    path, _, wanted = (name, "", "") if Path(name).is_file() else name.partition(":")
    found = _read(_find(path))
    if not wanted:
        return found
    known = [each.name for each in found.configurations]
    names = [wanted] if wanted in known else wanted.split(",")
    for each in names:
        if each not in known:
            close = difflib.get_close_matches(each, known, n=1)
            advice = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
            raise UsageError(f"{path} has no configuration {each!r}", where="--sampling", advice=advice)
    chosen = tuple(each for each in found.configurations if each.name in names)
    return SamplingFile("-".join([found.stem, *(UNSAFE.sub("_", each.name) for each in chosen)]), chosen, found.name)


def with_limit(file: SamplingFile, most: int | None) -> SamplingFile:
    """The configurations with another ``max_new_tokens``, if one is given."""
    if most is None:
        return file
    changed = (
        replace(each, generate_args={**each.generate_args, "max_new_tokens": most}) for each in file.configurations
    )
    return replace(file, configurations=tuple(changed))


def merge(default: SamplingConfiguration | None, configuration: SamplingConfiguration) -> SamplingConfiguration:
    """A configuration with what it leaves open taken from the default, by the rule of the original.

    A field that is empty or false leaves that of the default; ``generate_args`` and ``system_profile`` are merged key
    by key, and there every value counts.
    """
    if default is None:
        return configuration
    given = {name: value for name in (*TEXTS, "add_prefix_tokens") if (value := getattr(configuration, name))}
    return replace(
        default,
        **given,
        generate_args={**default.generate_args, **configuration.generate_args},
        own_args=configuration.own_args,
        system_profile={**default.system_profile, **configuration.system_profile},
    )


def _find(name: str) -> Path:
    """The file that a name without a configuration means."""
    if name.endswith(SUFFIX) or looks_like_path(name) or Path(name).is_file():
        return Path(name).expanduser()
    names = built_in_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean {close[0]}?" if close else f"built in: {', '.join(names)}; or give a {SUFFIX} file"
        raise UsageError(f"there are no sampling configurations {name!r}", where="--sampling", advice=advice)
    return BUILT_IN / f"{name}{SUFFIX}"


def _read(path: Path) -> SamplingFile:
    content = read_object(path, advice=ADVICE)
    _check_strictly(path)
    _check_keys(content, ("default", "configurations"), path, "")
    default = content.get("default")
    entries = content.get("configurations")
    if not isinstance(entries, list) or not entries:
        found = "missing" if entries is None else "empty" if entries == [] else type_name(entries)
        raise DataError(f"configurations: {found}, but must be a list", where=path, advice=ADVICE)
    base = None if default is None else parse_configuration(default, path, "default")
    configurations = [parse_configuration(each, path, f"configurations[{i}]") for i, each in enumerate(entries)]
    names = [each.name for each in configurations]
    for index, name in enumerate(names):
        if not name or name in names[:index]:
            what = f"configurations[{index}].name: " + (f"{name!r} occurs twice" if name else "a name is missing")
            raise DataError(what, where=path, advice="give every configuration another name")
    return SamplingFile(path.stem, tuple(merge(base, each) for each in configurations), path.name)


def _check_strictly(path: Path) -> None:
    """Raises DataError for keys that occur twice and texts that are no Unicode, in a file that is a JSON object."""
    content = path.read_bytes()
    text = content.decode(json.detect_encoding(content))
    try:
        decode_at(text, text.index("{"))
    except RecordError as error:
        raise DataError(error.what, where=path, advice=error.advice or ADVICE) from error


def parse_configuration(value: Any, path: Path, place: str) -> SamplingConfiguration:
    """One configuration as it is written. Raises DataError, which names the place in the file."""
    if not isinstance(value, dict):
        raise DataError(f"{place}: {type_name(value)}, but must be an object", where=path, advice=ADVICE)
    _check_keys(value, KEYS, path, place)
    held = {key: entry for key, entry in value.items() if entry is not None}
    kinds: Mapping[str, tuple[type, str]] = {
        **dict.fromkeys(TEXTS, (str, "text")),
        **dict.fromkeys(("generate_args", "system_profile"), (dict, "an object")),
        "add_prefix_tokens": (bool, "true or false"),
    }
    for key, entry in held.items():
        kind, words = kinds[key]
        if not isinstance(entry, kind):
            raise DataError(f"{place}.{key}: {type_name(entry)}, but must be {words}", where=path, advice=ADVICE)
    _check_profile(held.get("system_profile", {}), path, f"{place}.system_profile")
    return SamplingConfiguration(**held, own_args=held.get("generate_args", {}))


def _check_profile(profile: Values, path: Path, place: str) -> None:
    _check_keys(profile, PROFILE_KEYS, path, place)
    for key, value in profile.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key == "lang":
            holds, words = isinstance(value, str), "text"
        elif key == "length":
            holds, words = number and value > 0, "a number above 0"
        else:
            holds, words = number and 0 <= value <= 1, "a number from 0 to 1"
        if not holds:
            raise DataError(f"{place}.{key}: {value!r}, but must be {words}", where=path, advice=ADVICE)


def _check_keys(value: Values, known: tuple[str, ...], path: Path, place: str) -> None:
    for key in value:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            advice = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise DataError(f"{place + '.' if place else ''}{key}: unknown key", where=path, advice=advice)
