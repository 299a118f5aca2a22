"""JSON records: read those that are whole, and write numbers that JSON has."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np


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
