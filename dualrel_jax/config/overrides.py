"""Fields of a config set on the command line, as in --config.train.steps=500."""

import ast
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict

from dualrel_jax.config import migration
from dualrel_jax.config.schema import Field, field, fields_of, flat
from dualrel_jax.errors import InputError

_FLAG = re.compile(r"--?(?P<no>no)?config\.(?P<key>[^=]+)(?:=(?P<text>.*))?", re.DOTALL)
# In a benchmark a field of all rows starts with base., such as base.train.steps, one of a row with rows.NAME.
_SHARED = re.compile(r"(base\.|rows\.(\w+)\.)?(.+)", re.DOTALL)
_BOOLEANS = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}


def override(config: ConfigDict, words: Sequence[str]) -> list[str]:
    """Sets each field of `config` that a flag names; -> the other words.

    The flags are --config.KEY=VALUE, --config.KEY VALUE and, for a field that is True or False, --config.KEY and
    --noconfig.KEY. An old name of a field is replaced by its present one, with a line that names it.

    Raises:
      InputError: a field that the config does not have, or a value that the field does not allow.
    """
    others, following = [], iter(words)
    for word in following:
        flag = _FLAG.fullmatch(word)
        if not flag:
            others.append(word)
            continue
        key, entry = _find(config, flag["key"])
        text = flag["text"]
        if text is None:
            is_switch = entry.type is bool
            text = str(not flag["no"]) if is_switch else next(following, "")
        _set(config, key, parse_value(key, entry, migration.new_value(_unprefixed(key), text)))
    return others


def parse_value(key: str, entry: Field, text: Any) -> Any:
    """The value that a text of the command line stands for; InputError if the field does not allow it."""
    value = text
    if isinstance(text, str):
        try:
            value = _PARSERS[entry.type](text.strip() if entry.type is not str else text)
        except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
            value = text
    entry.check(key, value)
    return value


def unknown(key: str, known: Iterable[str]) -> InputError:
    """The error for a field that does not exist: it names the nearest one that does."""
    known = sorted(known)
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5) or same
    if same and key.count(".") == 0:
        near = same
    advice = f"did you mean config.{near[0]}?" if near else "see --help config for the fields."
    return InputError(f"The config has no field {key}; {advice}")


def _find(config: ConfigDict, key: str) -> tuple[str, Field]:
    """The present key of a field, and the field."""
    prefix, row, rest = _SHARED.fullmatch(key).groups()
    tree = config.to_dict()
    if "rows" in config and prefix:
        method = tree["rows"].get(row, {}).get("method", {}).get("name", "") if row else "supervised"
    else:
        prefix, rest, method = "", key, tree.get("method", {}).get("name", "")
    present = migration.present_name(rest, method)
    if present != rest:
        print(f"config.{key} is now config.{prefix}{present}.")
    known = flat(tree)
    if inside := [name for name in known if name.startswith(f"{prefix}{present}.")]:
        raise InputError(f"config.{key} is a section; name one of its fields, such as --config.{inside[0]}=...")
    if f"{prefix}{present}" not in known:
        raise unknown(f"{prefix}{present}", known)
    fields = fields_of(method) if method else {}
    entry = fields.get(present) or field(known[f"{prefix}{present}"], "a field of this config")
    return f"{prefix}{present}", entry


def _unprefixed(key: str) -> str:
    return _SHARED.fullmatch(key)[3]


def _set(config: ConfigDict, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    with config.unlocked():
        for section in sections:
            config = config[section]
        config[name] = value


def _pair(text: str) -> tuple:
    value = ast.literal_eval(text)
    return tuple(value) if isinstance(value, (tuple, list)) else text


def _boolean(text: str) -> bool:
    return _BOOLEANS[text.lower()]


_PARSERS = {bool: _boolean, int: int, float: float, str: str, tuple: _pair}
