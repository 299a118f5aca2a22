"""Shapes and durations as text for messages."""

from collections.abc import Iterable


def format_shape(shape: Iterable[int]) -> str:
    return " x ".join(str(length) for length in shape)


def format_duration(seconds: float) -> str:
    """4 s, 3 min, 2 h 10 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
