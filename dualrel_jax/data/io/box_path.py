"""Paths that name a box of a volume: `em.zarr[0:99,,5000:9000]`."""

import re
from pathlib import Path

from dualrel_jax.data.io.remote import RemotePath, absolute_path, is_remote
from dualrel_jax.utils.boxes import Box, parse_box, whole

_BOX = re.compile(r"(.+)\[([\d:,\s]*)\]\s*")
_ENDLESS = whole((2**62,) * 3)


def split_box(path: str | Path | RemotePath) -> tuple[str | Path | RemotePath, str | None]:
    """'a.zarr[0:9,,]' -> ('a.zarr', '0:9,,'); (path, None) without a box, or where a file has that name."""
    match = _BOX.fullmatch(str(path))
    if not match or (not is_remote(path) and Path(path).expanduser().exists()):
        return path, None
    return match[1], match[2]


def file_and_box(path: str) -> tuple[str, Box]:
    """The absolute path without its box, and the box z y x, whose ends that the path leaves out are far away.

    A path whose brackets hold no box is taken whole: `open_volume` is to refuse it.
    """
    file, text = split_box(path)
    try:
        box = parse_box(text, _ENDLESS) if text else _ENDLESS
    except ValueError:
        file, box = path, _ENDLESS
    return absolute_path(str(file if is_remote(file) else Path(file).expanduser())), box
