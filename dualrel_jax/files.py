"""Files that are whole or absent, whenever the process is killed, what is left of those that are not, and a cache."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, moved there in one step at the end; removed after an error."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two commands may write one file
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """Where the user keeps what can be made again; XDG_CACHE_HOME moves it. It need not exist, nor be writable."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dualrel_jax"


def read_records(path: Path) -> list[dict]:
    """Records of a `metrics.jsonl`; none if there is no file. A last line cut short by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def without_nan(value: Any) -> Any:
    """For JSON: a number, or a nest of dictionaries, lists and arrays of them, with None for what is not finite."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [without_nan(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
