"""One writer at a time for an output, on a disk or in a store.

In a store an object `<output>.lock` names the writer. It is created only if there is none, so of two commands that
begin at the same time one is refused. Its token also lies beside the output's local files, which `utils.lock` protects:
where the two agree, the writer was an earlier command of the same run, which has ended, if only by a kill.
"""

import contextlib
import json
import platform
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from dualrel_jax.data.io.remote import RemotePath, beside, open_store, store_errors
from dualrel_jax.errors import InputError
from dualrel_jax.utils import lock
from dualrel_jax.utils.atomic import write_text

_NAMED = {"folder": "folder", "host": "host", "since": "time"}  # in the object of a lock, and as a word
_held: set[Path] = set()  # local files with the tokens of this process


@contextlib.contextmanager
def output_writer(place: Path | RemotePath, option: str) -> Iterator[None]:
    """Holds an output as its only writer. The thread that holds it may take it again.

    Args:
        option: the flag that names another output, for the error.

    Raises:
        InputError: another command writes there, or the store cannot be written.
    """
    with lock.file_writer(beside(place), option):
        local = beside(place).with_name(f".{place.stem}.store")
        if isinstance(place, Path) or local in _held:
            yield
            return
        _take(place, local, option)
        _held.add(local)
        try:
            yield
        finally:
            _held.discard(local)
            with contextlib.suppress(InputError):  # then the next command of this run takes it over
                _delete(place)
                local.unlink(missing_ok=True)


def check_finished(place: RemotePath) -> None:
    """InputError for an image in a store that a command of this package writes, or that one left unfinished."""
    target = _object_of(place)
    holder = _parse(target.parent.read_files([target.name]).get(target.name, b""))
    if "token" in holder:
        raise InputError(
            f"{place} is being written, or was left unfinished, by {_describe(holder)}; expected a whole image: wait "
            f"until that command ends, or repeat it; if the image is whole, delete {target}."
        )
    if set(place.read_files(["zarr.json", ".zgroup", ".zarray", "attributes.json", "0/zarr.json"])) == {"0/zarr.json"}:
        raise InputError(
            f"{place} is unfinished: its array 0 is there, but not its zarr.json, which is written last; expected a "
            f"whole image: repeat the command that writes it, or name {place}/0 to read what is there."
        )


def _describe(holder: dict) -> str:
    folder, host, since = (holder.get(key, f"an unknown {kind}") for key, kind in _NAMED.items())
    return f"another command (that of {folder} on {host}, since {since})"


def _object_of(place: RemotePath) -> RemotePath:
    return place.with_name(f"{place.name}.lock")


def _take(place: RemotePath, local: Path, option: str) -> None:
    earlier = local.read_text().strip() if local.exists() else ""
    token = earlier or uuid.uuid4().hex
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    folder = str((place.side or Path()).absolute())
    mine = {"token": token, "host": platform.node(), "folder": folder, "since": since}
    target = _object_of(place)
    with store_errors(place):
        store = open_store(target.parent)
        there = store.read(target.name).result()
        if there.state == "missing":
            write_text(local, token)  # before the object, which a kill would else leave to nobody
            store.write(target.name, json.dumps(mine), if_equal=there.stamp.generation).result()
            there = store.read(target.name).result()  # another one may have been faster
    holder = _parse(there.value)
    if holder.get("token") == token:
        return
    if not earlier:
        local.unlink(missing_ok=True)
    if there.state == "missing":  # a bucket that does not exist answers to a write as where another was faster
        place.check_access()
    raise InputError(
        f"{place} is being written by {_describe(holder)}; wait until that ends, or name another place with {option}; "
        f"if it runs no longer, repeat it, or delete {target}."
    )


def _parse(value: bytes) -> dict:
    """What a lock holds; nothing where another program wrote it."""
    try:
        holder = json.loads(value)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _delete(place: RemotePath) -> None:
    target = _object_of(place)
    with store_errors(place):
        open_store(target.parent).write(target.name, None).result()
