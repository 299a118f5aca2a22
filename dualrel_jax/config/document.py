"""The config fields as text: help on the command line, and docs/configuration.md."""

import collections
import textwrap
from collections.abc import Iterator

from dualrel_jax.config.overrides import unknown
from dualrel_jax.config.schema import Field, fields_of, method_names
from dualrel_jax.constants import METHOD_TITLES, SECTIONS

_INTRODUCTION = """\
# Configuration

Every field of a config, with its default, what it sets, its unit and its range. `--set` sets one of them in a short
command, `--config.` in the form for scripts:

    dualrel train runs/a --data lucchi --set train.steps=500
    dualrel --config configs/dualrel.py:lucchi,1/32 --workdir runs/a --config.train.steps=500

`dualrel --help config.train` prints a part of this page, `dualrel --help config.train.steps` one field. Three defaults
in a row are those of the sizes tiny, small and base (`--size`). A value that a field does not allow is refused
before anything is computed.

This page is made from [configs/](../configs) by `python -m dualrel_jax.config --markdown`; edit the fields there.
"""


def describe(topic: str) -> str:
    """The fields that `topic` names: `config`, a section such as `config.train`, or a field. InputError for others."""
    wanted = topic.removeprefix("config").removeprefix(".")
    methods_with = collections.defaultdict(list)  # (key, field) -> the methods that have it
    for method in method_names():
        for key, entry in fields_of(method).items():
            methods_with[key, entry].append(method)
    lines = []
    for (key, entry), methods in methods_with.items():
        if wanted in ("", key) or key.startswith(f"{wanted}."):
            of_methods = f" ({', '.join(methods)})" if methods != method_names() else ""
            lines += [f"config.{key}{of_methods}", *_wrapped(explain(key, entry))]
    if not lines:
        raise unknown(wanted, {key for key, _ in methods_with})
    return "\n".join(lines)


def explain(key: str, entry: Field) -> str:
    """What a field sets, its limits and its default, in sentences."""
    default = _default(key, entry)
    sizes = " for tiny, small, base" if entry.default is None and ", " in default else ""
    return f"{_sentence(entry)} Default: {default}{sizes}."


def markdown() -> str:
    """The page docs/configuration.md."""
    parts = [_filled(_INTRODUCTION)]
    shared = {key: entry for key, entry in fields_of("supervised").items() if not key.startswith("method.")}
    for section, title in {"": "The config itself", **SECTIONS}.items():
        inside = {key: entry for key, entry in shared.items() if key.rpartition(".")[0] == section}
        heading = f"`config.{section}`" if section else "`config`"
        parts.append(f"## {title}: {heading}\n\n{''.join(_bullets(inside, section))}")
    for method in method_names():
        own = {
            key: entry for key, entry in fields_of(method).items() if shared.get(key) != entry and key != "method.name"
        }
        if own:
            title = METHOD_TITLES.get(method, method)
            parts.append(f"## {title}: `config.method` of `configs/{method}.py`\n\n{''.join(_bullets(own, 'method'))}")
    return "\n".join(parts)


def _bullets(fields: dict[str, Field], section: str) -> Iterator[str]:
    """A field of another section has that before its name."""
    for key, entry in fields.items():
        text = f"`{key.removeprefix(f'{section}.')}` ({_default(key, entry)}): {_sentence(entry)}"
        yield textwrap.fill(text, 98, initial_indent="- ", subsequent_indent="  ", **_UNBROKEN) + "\n"


def _sentence(entry: Field) -> str:
    """What the field sets, the values it allows, and what 0 or an empty text means."""
    special = f"{entry.nothing()}: {entry.special}" if entry.special else ""
    limits = entry.limits().removesuffix(f", or {entry.nothing()} ({entry.special})")
    allowed = f"Allowed: {limits}" if limits else ""
    meaning = entry.meaning[0].upper() + entry.meaning[1:]
    return " ".join(f"{part}." for part in (meaning, allowed, special) if part)


def _default(key: str, entry: Field) -> str:
    from dualrel_jax.configs.sizes import SIZES

    values = [size[key] for size in SIZES.values()] if entry.default is None else [entry.default]
    values = values[:1] if len(set(values)) == 1 else values
    return ", ".join("empty" if value == "" else str(value) for value in values)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 98, initial_indent="    ", subsequent_indent="    ", **_UNBROKEN)


def _filled(text: str) -> str:
    """Paragraphs of at most 100 characters a line; code and headings stay."""
    paragraphs = text.strip().split("\n\n")
    return (
        "\n\n".join(p if p.startswith(("#", "    ")) else textwrap.fill(p, 98, **_UNBROKEN) for p in paragraphs) + "\n"
    )


_UNBROKEN = {"break_long_words": False, "break_on_hyphens": False}
