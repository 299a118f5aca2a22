"""Fetches the public data sets: resumable, checked before unpacking, laid out as `public.py` reads them."""

import hashlib
import http.client
import re
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from dualrel_jax.data.datasets.public import LAYOUTS, Remote
from dualrel_jax.errors import InputError

_CHUNK = 1 << 20
_TIMEOUT_S = 60


def download_dataset(name: str, directory: str | Path) -> Path:
    """Fetches data set `name` into `directory/name` and returns that folder; does nothing for files already there.

    A file grows as `<file>.part`, continues where an earlier call stopped, and gets its name only once its size and
    SHA-256 are right. Folders of an archive appear complete or not at all.

    Raises:
      InputError: no such download, server out of reach, interrupted, wrong size or checksum, unsafe archive, or a
        folder that cannot be written (a full disk).
    """
    layout, folder = LAYOUTS.get(name), Path(directory) / name
    if layout is None or not layout.remotes:
        names = ", ".join(other.name for other in LAYOUTS.values() if other.remotes)
        by_hand = f", or {layout.by_hand(folder)}" if layout else ""
        raise InputError(f"{name} cannot be downloaded by this command; expected one of {names}{by_hand}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for remote in layout.remotes:
            if remote.folders:
                _fetch_archive(remote, folder)
            elif not (folder / remote.filename).exists():
                _fetch(remote, folder / remote.filename)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror or error}); free some space or set data.dir to another "
            "folder, and run the same command again."
        ) from error
    return folder


def _fetch_archive(remote: Remote, folder: Path) -> None:
    missing = [name for name in remote.folders if not (folder / name).exists()]
    if not missing:
        return
    archive = folder / remote.filename
    placed_by_hand = archive.exists()
    if placed_by_hand:
        _check(remote, archive, archive)
    else:
        _fetch(remote, archive)
    unpack(archive, folder, missing)
    if not placed_by_hand:
        archive.unlink()


def _fetch(remote: Remote, target: Path) -> None:
    """Downloads to `<target>.part`, checks it, renames it."""
    part = target.with_name(target.name + ".part")
    done = part.stat().st_size if part.exists() else 0
    if remote.size is None or done < remote.size:
        try:
            _download(remote, part, done)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise InputError(
                f"Could not download {remote.url} ({error}); run the same command again to continue where it stopped, "
                f"or fetch the file some other way and put it at {target}."
            ) from error
    _check(remote, part, target)
    part.replace(target)


def _download(remote: Remote, part: Path, done: int) -> None:
    """Appends to `part` from byte `done`, or starts again where the server cannot continue."""
    request = urllib.request.Request(remote.url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        # Nothing lies beyond byte `done`: the part is whole, or not of this file, which its checksum shows.
        return
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if not resumed:
            done = 0
        left = response.headers.get("Content-Length")
        total = done + int(left) if left else remote.size
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=remote.filename) as bar,
        ):
            for block in _blocks(response):
                file.write(block)
                bar.update(len(block))
    got = part.stat().st_size
    # http.client ends a body that was cut short silently.
    if total is not None and got < total:
        raise ConnectionError(f"connection lost after {got} of {total} bytes")


def _blocks(response) -> Iterator[bytes]:
    while block := response.read(_CHUNK):
        yield block


def _check(remote: Remote, path: Path, target: Path) -> None:
    """Compares size and SHA-256; a wrong download is removed, a file placed by hand is left alone."""
    size = path.stat().st_size
    problem = None
    if remote.size is not None and size != remote.size:
        problem = f"has {size} bytes, expected {remote.size}"
    elif remote.sha256 is not None:
        with open(path, "rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != remote.sha256:
            problem = f"has SHA-256 {got}, expected {remote.sha256}"
    if problem is None:
        return
    if path != target:
        path.unlink()
    raise InputError(
        f"{remote.url} {problem}: the file was damaged on the way or has changed at its source; it was not unpacked. "
        f"Try again, or put a good copy at {target}."
    )


def unpack(archive: Path, folder: Path, folders: list[str]) -> None:
    """Unpacks the `folders` of a zip file into `folder`, each from wherever it lies inside the archive.

    Raises:
      InputError: not a zip file, a member that points outside the archive (nothing is written then), or a folder of
        `folders` that it does not hold.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            members = [member for member in source.infolist() if _is_safe(member, archive)]
            placed = {member: place for member in members if (place := _place(member.filename, folders))}
            absent = [name for name in folders if not any(place.is_relative_to(name) for place in placed.values())]
            if absent:
                raise InputError(f"{archive} does not hold the folder {absent[0]}; expected {', '.join(folders)}.")
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as staging:
                for member, place in tqdm(placed.items(), desc=f"unpacking {archive.name}", unit="file"):
                    path = Path(staging, place)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with source.open(member) as compressed, open(path, "wb") as file:
                        shutil.copyfileobj(compressed, file, _CHUNK)
                for name in folders:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    Path(staging, name).replace(folder / name)
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive} is not a whole zip file ({error}); remove it and download it again.") from error


def _is_safe(member: zipfile.ZipInfo, archive: Path) -> bool:
    """True for a plain file, False for a folder; raises InputError for anything that could land elsewhere."""
    name = member.filename.replace("\\", "/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    escapes = name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/")
    if escapes or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(
            f"{archive} holds the member {member.filename!r}, which points outside the archive or is a link; nothing "
            "was unpacked. Remove the file and get it from its official page."
        )
    return not member.is_dir()


def _place(member: str, folders: list[str]) -> PurePosixPath | None:
    """Where a member goes below the data set's folder; None if it is in none of the folders."""
    if member.startswith("__MACOSX/"):
        return None
    for name in folders:
        _, separator, inside = f"/{member}".partition(f"/{name}/")
        if separator:
            return PurePosixPath(f"{name}/{inside}")
    return None
