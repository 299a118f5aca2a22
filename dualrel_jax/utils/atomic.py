"""Files that are whole or absent, whenever the process is killed, what is left of those that are not, and a cache."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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
