"""The result of a check: one sentence for the user."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True)
class Finding:
    """One sentence for the user; with `look`, something that seems wrong, and its remedy; `slices`: the z it names."""

    text: str
    look: bool = False
    slices: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{'look:' if self.look else 'ok:  '} {self.text}"


def places(zs: Sequence[int]) -> str:
    """[3, 40] -> "z = 3, 40"; of many, from where to where."""
    return f"z = {list_words(zs)}" if len(zs) <= 8 else f"z = {zs[0]} to {zs[-1]}"


def list_some(words: Iterable, total: int, count: int = 6) -> str:
    """[3, 40, 41] -> "3, 40, 41"; of a `total` above `count`, the first ones and how many more there are."""
    return list_words(list(islice(words, count))) + (f" and {total - count} more" if total > count else "")


def list_words(words: Sequence) -> str:
    """[3, 40] -> "3, 40"; "none" where there are none."""
    return ", ".join(map(str, words)) or "none"
