"""Whether an output can be written, before the work for it begins; the picture of the last one."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

import tifffile

from dualrel_jax.data.io import ome_zarr
from dualrel_jax.data.io.remote import RemotePath, as_place, beside
from dualrel_jax.data.io.writers import SUFFIXES
from dualrel_jax.errors import InputError
from dualrel_jax.utils.jsonl import read_json


def check_output(path: str | Path | RemotePath, option: str, key: str, source: str = "") -> None:
    """InputError if `path` cannot become a volume, or would take the place of a foreign file or of another's output.

    Args:
        option: the config field that names it, such as `predict.output`.
        key: of `<stem>.json` beside an output, whose value there is the input that it is made from.
        source: this input, where it is known.
    """
    path = as_place(path)
    if ":" in path.name:
        raise _refused(option, path, "names an array inside a file (FILE:NAME)", "a file or folder of its own")
    if path.suffix.lower() not in SUFFIXES:
        raise _refused(option, path, "is of no type that can be written", f"a name that ends in {', '.join(SUFFIXES)}")
    if isinstance(path, RemotePath):
        _check_store(path, option)
        if path.side is None:
            return
    else:
        _check_free(path, option)
        _check_folder(path, option)
    local = beside(path)
    _check_record(local.with_name(f"{local.stem}.json"), option, path, key, source)


def check_beside(output: Path | RemotePath, tables: Iterable[Path], option: str) -> None:
    """InputError if one of `tables`, files that are written with an output, is there without an earlier output.

    `output` has passed `check_output`: what is there is an earlier one.
    """
    local = beside(output)
    if isinstance(output, RemotePath) or output.exists() or local.with_name(f"{local.stem}.json").exists():
        return
    for table in tables:
        if table.exists():
            raise _refused(option, output, f"would overwrite {table.name}, a file of another origin", "a free name")


def _check_store(path: RemotePath, option: str) -> None:
    if path.suffix.lower() != ".zarr":
        raise _refused(option, path, "is in a store, where only OME-Zarr can be written", "a name that ends in .zarr")
    if path.root.startswith("http"):
        raise _refused(option, path, "is on a web server, which can only be read", "s3://, gs:// or a folder")
    fresh = RemotePath(path.root, path.key)
    if fresh.read_files(["zarr.json", ".zgroup", ".zarray", "attributes.json"]) and not ome_zarr.is_ours(fresh):
        raise _refused(option, path, "is an image that dualrel_jax did not write", "a free name")


def _refused(option: str, path: Path | RemotePath, problem: str, expected: str) -> InputError:
    return InputError(f"config.{option} is {path}, which {problem}; expected {expected}: choose another name.")


def _check_free(path: Path, option: str) -> None:
    if path.suffix.lower() == ".zarr":
        if path.is_dir() and not ome_zarr.is_ours(path):
            raise _refused(option, path, "is a folder that dualrel_jax did not write", "a free name")
        if path.exists() and not path.is_dir():
            raise _refused(option, path, "is a file", "a free name, or an OME-Zarr folder to replace")
    elif path.is_dir():
        raise _refused(option, path, "is a folder", "a free name, or a file to replace")
    elif path.exists() and not _is_our_tiff(path):  # raw data, or a mask that was corrected since
        raise _refused(option, path, "is a file that dualrel_jax did not write", "a free name")


def _is_our_tiff(path: Path) -> bool:
    try:
        with tifffile.TiffFile(path) as file:
            return file.pages.first.software == ome_zarr.CREATOR
    except (OSError, ValueError, tifffile.TiffFileError):
        return False


def _check_folder(path: Path, option: str) -> None:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise _refused(option, path, f"lies below {folder}, a file", "a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refused(option, path, f"lies in {folder}, where you may not write", "a folder of yours")


def _check_record(record: Path, option: str, path: Path | RemotePath, key: str, source: str) -> None:
    if not record.exists():
        return
    found = read_json(record, {}, f"choose another name for config.{option}, or remove it")
    if key not in found:
        raise InputError(
            f"config.{option}: beside it {record} would be overwritten, which is not the record of an earlier output; "
            "choose another name."
        )
    if found.get("output", str(path)) != str(path):
        raise InputError(
            f"config.{option} is {path}, but {record} is the record of {found['output']}; choose another name, or "
            "remove that file."
        )
    same_stem = (path.with_suffix(suffix) for suffix in SUFFIXES if suffix != path.suffix.lower())
    if isinstance(path, Path) and (other := next(filter(Path.exists, same_stem), None)):
        raise InputError(
            f"config.{option} is {path}, but {record} is the record of {other.name} beside it; choose another name, or "
            "remove these."
        )
    if source and found[key] != source:
        raise InputError(
            f"config.{option} is {path}, which is made from {found[key]}; name another output (-o) for {source}, or "
            f"remove {record}."
        )


def last_picture(folder: Path) -> Path | None:
    """The newest picture with a record beside it, of an output in `folder` or, in a folder s3 or gs, in a store."""
    pictures = itertools.chain(folder.glob("*.png"), *((folder / scheme).rglob("*.png") for scheme in ("s3", "gs")))
    described = [picture for picture in pictures if picture.with_suffix(".json").exists()]
    return max(described, key=lambda picture: picture.stat().st_mtime, default=None)
