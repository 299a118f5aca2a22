"""Shapes, durations and paths as text for messages."""

import shlex
from collections.abc import Iterable
from pathlib import Path


def format_shape(shape: Iterable[int]) -> str:
    return " x ".join(str(length) for length in shape)


def format_duration(seconds: float) -> str:
    """4 s, 3 min, 2 h 10 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def quoted(path: str | Path) -> str:
    """A path as one word of a command, to paste into a shell."""
    return shlex.quote(str(path))
