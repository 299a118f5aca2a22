"""Files that are whole or absent, whenever the process ends."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_unfinished: set[Path] = set()  # what a stopped command removes before it ends


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, moved there in one step at the end; removed after an error."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two commands may write one file
    with removed_when_stopped(part):
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(content)


@contextlib.contextmanager
def removed_when_stopped(path: Path) -> Iterator[None]:
    """Within this context a command that is stopped removes `path`, a file or a folder, before it ends."""
    _unfinished.add(path)
    try:
        yield
    finally:
        _unfinished.discard(path)


def remove_unfinished() -> None:
    """Removes what is half written: called when the process ends at once, without leaving its contexts."""
    for path in list(_unfinished):
        with contextlib.suppress(OSError):
            remove(path)


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
