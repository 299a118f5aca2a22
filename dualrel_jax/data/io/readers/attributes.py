"""Attributes of zarr and n5 folders: their JSON files read, checked and merged into one dictionary."""

import json
import posixpath
from pathlib import Path
from typing import Any

from dualrel_jax.data.io.remote import RemotePath
from dualrel_jax.errors import InputError

Folder = Path | RemotePath

FILES = {"zarr.json": "zarr3", ".zarray": "zarr", ".zgroup": "zarr", ".zattrs": "zarr", "attributes.json": "n5"}
_BOM = b"\xef\xbb\xbf"  # Windows programs write it in front of UTF-8


def attributes_of(folder: Folder) -> dict[str, Any]:
    """All attributes of a folder, of whichever format; paths in `multiscales` without "./" and slashes at their ends.

    Raises:
        InputError: a file is no JSON object, or its `multiscales` are not those of OME-Zarr.
    """
    merged: dict[str, Any] = {}
    for name, content in _files(folder).items():
        merged |= _parsed(content, f"{folder}/{name}")
    return merged


def driver_of(folder: Folder) -> str | None:
    """The tensorstore driver of an array; None where the folder is no array."""
    if ".zarray" in _files(folder):
        return "zarr"
    attributes = attributes_of(folder)
    if attributes.get("node_type") == "array":
        return "zarr3"
    return "n5" if "blockSize" in attributes and "dimensions" in attributes else None


def _files(folder: Folder) -> dict[str, bytes]:
    """Name -> content of the metadata files of a folder."""
    if isinstance(folder, RemotePath):  # a web server may answer by a page where there is no file
        files = folder.read_files(FILES)
        return {name: text for name, text in files.items() if text.removeprefix(_BOM).lstrip().startswith(b"{")}
    files = (folder / name for name in FILES)
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def _parsed(content: bytes, file: str) -> dict[str, Any]:
    try:
        attributes = json.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(
            f"{file}: cannot be read as JSON ({error}); expected attributes of zarr or n5: correct it, or copy it again"
        ) from error
    attributes = _checked(attributes, dict, file, "the file")
    for key in ("attributes", "ome"):  # zarr 3 and OME-Zarr 0.5 keep them there
        attributes |= inner if isinstance(inner := attributes.get(key), dict) else {}
    if "multiscales" in attributes:
        images = _checked(attributes["multiscales"] or [], list, file, "multiscales")
        attributes["multiscales"] = [_image(image, file, f"multiscales[{i}]") for i, image in enumerate(images)]
    return attributes


def _image(image: Any, file: str, key: str) -> dict[str, Any]:
    """An entry of `multiscales`."""
    image = _checked(image, dict, file, key)
    axes = _checked(image.get("axes") or [], list, file, f"{key}.axes")
    _check_transformations(image, len(axes), file, key)
    levels = []
    for i, level in enumerate(_checked(image.get("datasets") or [], list, file, f"{key}.datasets")):
        at = f"{key}.datasets[{i}]"
        level = _checked(level, dict, file, at)
        path = _checked(level.get("path"), str, file, f"{at}.path")
        _check_transformations(level, len(axes), file, at)
        levels.append(level | {"path": posixpath.normpath(path).strip("/")})
    return image | {"datasets": levels}


def _check_transformations(owner: dict, count: int, file: str, key: str) -> None:
    key = f"{key}.coordinateTransformations"
    for i, step in enumerate(_checked(owner.get("coordinateTransformations") or [], list, file, key)):
        step = _checked(step, dict, file, f"{key}[{i}]")
        for kind in {"scale", "translation"} & {*step}:
            numbers = _checked(step[kind], list, file, f"{key}[{i}].{kind}")
            if not all(type(number) in (int, float) for number in numbers) or (count and len(numbers) != count):
                expected = f"{count} numbers, one for each of its axes" if count else "numbers"
                raise _wrong(numbers, expected, file, f"{key}[{i}].{kind}")


def _checked(value: Any, kind: type, file: str, key: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong(value, {dict: "an object, {...}", list: "a list, [...]", str: "a text"}[kind], file, key)
    return value


def _wrong(value: Any, expected: str, file: str, key: str) -> InputError:
    text = "nothing" if value is None else json.dumps(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return InputError(f"{file}: {key} is {text}; expected {expected}: correct the file, or export the image again")
