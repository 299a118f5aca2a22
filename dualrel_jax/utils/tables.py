"""Tables as text: Markdown and CSV, one writer each for the whole project."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text under `columns`, without a last line break.

    >>> print(markdown_table(["score", "value"], [["JAC", "0.86"]]))
    | score | value |
    | --- | --- |
    | JAC | 0.86 |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def csv_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows of values under `columns`; None and what is not a finite number become an empty cell.

    >>> print(csv_table(["z", "jac"], [[3, 0.5], [4, float("nan")]]))
    z,jac
    3,0.5
    4,
    <BLANKLINE>
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
