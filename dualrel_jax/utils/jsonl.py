"""JSON: read with an error that names the file, and write numbers that JSON has."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.errors import InputError

_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def read_json(path: str | Path, fields: Mapping[str, type | tuple[type, ...]], advice: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        fields: what it must hold, name -> the type of its value or several; a float may be written as an integer.
        advice: what to do where the file cannot be used, a clause that ends the sentence.

    Raises:
        InputError: no such file, empty, cut short, no JSON, not an object, or a field is missing or of another type.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{path} cannot be read ({reason}); {advice}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not JSON (it is not text); {advice}.") from error
    if not text.strip():
        raise InputError(f"{path} is empty; {advice}.")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not whole JSON ({error}); {advice}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {_kind(content)}; expected an object in braces: {advice}.")
    for name, kinds in fields.items():
        if name not in content:
            raise InputError(f"{path} lacks {name!r}; {advice}.")
        _check_kind(path, name, content[name], kinds if isinstance(kinds, tuple) else (kinds,), advice)
    return content


def _check_kind(path: Path, name: str, value: Any, kinds: tuple[type, ...], advice: str) -> None:
    allowed = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(_NAMES.get(kind, "a number") for kind in kinds)
        raise InputError(f"{path} has {name} = {json.dumps(value)[:60]}; expected {expected}: {advice}.")


def _kind(value: Any) -> str:
    return next((name for kind, name in _NAMES.items() if isinstance(value, kind)), "a number")


def read_records(path: Path) -> list[dict]:
    """Records {"step": n, ...} of a `metrics.jsonl`; none if there is no file.

    A last line cut short by a kill is left out, and what follows a damaged line.
    """
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records


def without_nan(value: Any) -> Any:
    """For JSON: a number, or a nest of dictionaries, lists and arrays of them, with None for what is not finite."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [without_nan(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
