"""Places in object stores and on web servers: `s3://bucket/path`, `gs://bucket/path`, `https://host/path`.

`RemotePath` has what the readers and writers use of `pathlib.Path`. Objects are read and written by tensorstore.

Of S3 the usual environment variables count: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE and the files of `aws configure`; without any of these the store
is read as anyone may. For `gs://` those of Google. No credential is printed or written.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from dualrel_jax.errors import InputError
from dualrel_jax.utils import atomic

_URL = re.compile(r"(s3|gs|https?):/{1,2}", re.IGNORECASE)  # of two slashes a Path leaves one
_OURS = re.compile(r"zarr\.json|\d+/(zarr\.json|c/[\d/]+)")
_OPEN_S = 30.0  # longest wait for one metadata file, retries included
# An address that is wrong is known after seconds; a prediction of hours waits longer for a store that is away.
_FIRST = {"max_retries": 4, "initial_delay": "0.3s", "max_delay": "2s"}
_LATER = {"max_retries": 10, "initial_delay": "0.5s", "max_delay": "20s"}


def is_remote(path: object) -> bool:
    """Whether a path is an address of a store, also one that `pathlib` made `s3:/bucket` of."""
    return isinstance(path, RemotePath) or _URL.match(str(path)) is not None


def as_place(path: "str | Path | RemotePath") -> "Path | RemotePath":
    """A `RemotePath` for an address, else a `Path` with `~` expanded.

    Raises:
        InputError: an address without bucket or host, or with a password or a query in it.
    """
    if isinstance(path, RemotePath):
        return path
    return RemotePath.parse(str(path)) if is_remote(path) else Path(path).expanduser()


def absolute_path(path: str) -> str:
    """A local path from the root on; an address as it is."""
    return str(path) if is_remote(path) else str(Path(path).resolve())


def split_address(text: str) -> tuple[str, str | None]:
    """'s3://bucket/a.zarr:em/s1' -> ('s3://bucket/a.zarr', 'em/s1'); (address, None) without a colon in its path."""
    scheme, path = _URL.match(text), ""
    host, slash, path = text[scheme.end() :].partition("/")
    path, colon, inner = path.partition(":")
    return f"{scheme[1].lower()}://{host}{slash}{path}", inner.strip("/") or None if colon else None


class _Files(dict[str, bytes | None]):
    """Address of a file -> its content, None where it does not exist; and the last refusal to read one."""

    refusal: ValueError | None = None


class RemotePath:
    """A place in a store: `root` is `s3://bucket`, `gs://bucket` or `https://host`, `key` what follows.

    Files read from one place and from those derived from it are kept, so that metadata are fetched once.

    `side` is a folder on this machine for what belongs to an output in the store and is no volume; see `beside`.
    """

    def __init__(self, root: str, key: str, files: "_Files | None" = None, side: Path | None = None):
        self.root, self.key, self.side = root, key.strip("/"), side
        self._files = _Files() if files is None else files

    def with_side(self, folder: Path) -> "RemotePath":
        return RemotePath(self.root, self.key, side=folder)

    @classmethod
    def parse(cls, text: str) -> "RemotePath":
        scheme = _URL.match(text)
        address = urlsplit(f"{scheme[1].lower()}://{text[scheme.end() :]}")
        shown = f"{address.scheme}://{address.hostname or ''}{address.path}"
        if not address.hostname:
            raise InputError(f"{text}: names no bucket or host; expected an address such as s3://bucket/volume.zarr")
        if address.username or address.password or address.query:
            raise InputError(
                f"{shown}: its address holds a user, a password or a query, which records would show; expected an "
                "address alone: set credentials in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
            )
        return cls(f"{address.scheme}://{address.netloc}", address.path)

    # ---- as a path

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.root, f"{self.key}/{name}", self._files, self.side)

    name = property(lambda self: PurePosixPath(self.key).name)
    stem = property(lambda self: PurePosixPath(self.key).stem)
    suffix = property(lambda self: PurePosixPath(self.key).suffix)
    parts = property(lambda self: (self.root, *PurePosixPath(self.key).parts))

    @property
    def parent(self) -> "RemotePath":
        """The root is its own parent."""
        return RemotePath(self.root, self.key.rpartition("/")[0], self._files, self.side)

    @property
    def parents(self) -> list["RemotePath"]:
        above = self.parent
        return [] if not self.key else [above, *above.parents]

    def with_name(self, name: str) -> "RemotePath":
        return self.parent / name

    def relative_to(self, other: "RemotePath") -> PurePosixPath:
        return PurePosixPath(self.key).relative_to(other.key or ".")

    def is_relative_to(self, other: object) -> bool:
        return self == other or other in self.parents

    def resolve(self) -> "RemotePath":
        return self

    absolute = expanduser = resolve

    # ---- content

    def read_files(self, names: Iterable[str]) -> dict[str, bytes]:
        """Name -> content of those of the files in this place that exist and may be read, fetched at once.

        Raises:
            InputError: the store does not answer.
        """
        keys = {name: str(self / name) for name in names}
        missing = [name for name, key in keys.items() if key not in self._files]
        if missing:
            with store_errors(self):
                store = open_store(self, patient=False)
                futures = {name: store.read(name) for name in missing}
                for name, future in futures.items():
                    self._files[keys[name]] = self._content(future)
        return {name: self._files[key] for name, key in keys.items() if self._files[key] is not None}

    def _content(self, future: Any) -> bytes | None:
        try:
            answer = future.result(timeout=_OPEN_S)
        except ValueError as error:
            if "PERMISSION_DENIED" not in str(error):
                raise
            self._files.refusal = error  # where listing is forbidden, so is reading what does not exist
            return None
        return answer.value if answer.state == "value" else None

    def is_dir(self) -> bool:
        """Stores have no folders: whatever the name, something may lie below it."""
        return True

    def exists(self) -> bool:
        """Whether a group or an array is here, or level 0 of a group that is being written; asked anew each time."""
        here = RemotePath(self.root, self.key)
        return bool(here.read_files(["zarr.json", ".zgroup", ".zarray", "attributes.json", "0/zarr.json"]))

    def write_text(self, text: str) -> None:
        with store_errors(self):
            open_store(self.parent).write(self.name, text.encode()).result()
        self._files.clear()

    def check_access(self) -> None:
        """InputError where files were not read because that is forbidden, or where there is no such bucket."""
        with store_errors(self):
            if self._files.refusal is not None:
                raise self._files.refusal
            if not self.root.startswith("http"):
                import tensorstore as ts

                nothing = ts.KvStore.KeyRange("\x7f.nothing", "\x7f.nothing\x00")
                open_store(self, patient=False).list(nothing).result(timeout=_OPEN_S)


def beside(output: Path | RemotePath) -> Path:
    """An output as its neighbours are named after it: of one in a store, a place for its address in its `side` folder.

    s3://bucket/out/mask.zarr -> <side>/s3/bucket/out/mask.zarr: outputs of one name have each a folder of their own.
    """
    if isinstance(output, Path):
        return output
    scheme, _, bucket = output.root.partition("://")
    inside = (part for part in PurePosixPath(output.key).parts if part != "..")  # in a key no folder above
    return (output.side or Path()).joinpath(scheme, bucket, *inside)


def remove(place: Path | RemotePath) -> None:
    """Deletes a file, a folder or an image in a store, if it exists.

    Raises:
        InputError: what lies below an address is not only an OME-Zarr image as this package writes it.
    """
    if isinstance(place, Path):
        atomic.remove(place)
        return
    with store_errors(place):
        store = open_store(place)
        keys = store.list().result()
        foreign = [key.decode() for key in keys if not _OURS.fullmatch(key.decode())]
        if foreign:
            raise InputError(
                f"{place}: holds {foreign[0]}, which dualrel_jax did not write; expected a free name: choose another"
            )
        if keys:
            store.delete_range(type(store).KeyRange()).result()
    place._files.clear()


def kvstore_spec(place: Path | RemotePath) -> dict[str, Any]:
    """tensorstore's JSON for everything below a place, without credentials."""
    if isinstance(place, Path):
        return {"driver": "file", "path": f"{os.path.abspath(place)}/"}  # it refuses ".."
    scheme, _, host = place.root.partition("://")
    path = f"{place.key}/" if place.key else ""
    if scheme in ("http", "https"):
        return {"driver": "http", "base_url": f"{place.root}/", "path": unquote(path)}
    if scheme == "gs":
        return {"driver": "gcs", "bucket": host, "path": path}
    spec = {"driver": "s3", "bucket": host, "path": path}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        spec |= {"endpoint": endpoint.rstrip("/"), "aws_region": region}
    return spec  # of Amazon's own buckets the region is looked up


def context_spec(patient: bool = True) -> dict[str, Any]:
    """tensorstore's JSON for retries and credentials; `patient`: keep trying for minutes."""
    retries = _LATER if patient else _FIRST
    return {f"{kind}_request_retries": retries for kind in ("s3", "gcs", "http")} | {
        "aws_credentials": {"type": _credentials()}
    }


def _credentials() -> str:
    """Where S3 credentials come from. tensorstore's own search logs, and waits for a machine of Amazon's to answer."""
    environment = os.environ
    if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        return "environment"
    if any(map(environment.get, ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"))):
        return "default"
    files = environment.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    if environment.get("AWS_PROFILE") or Path(files).expanduser().exists():
        return "profile"
    return "anonymous"


def open_store(place: RemotePath, patient: bool = True) -> Any:
    """tensorstore's key-value store of everything below a place."""
    import tensorstore as ts

    return ts.KvStore.open(kvstore_spec(place), context=_context(patient, _credentials())).result(timeout=_OPEN_S)


@functools.lru_cache
def _context(patient: bool, credentials: str) -> Any:
    import tensorstore as ts

    return ts.Context(context_spec(patient))


@contextlib.contextmanager
def store_errors(place: object) -> Iterator[None]:
    """Raises what goes wrong with a store as InputError: one sentence, without what the server answered in full."""
    try:
        yield
    except TimeoutError as error:
        raise InputError(
            f"{place}: does not answer within {_OPEN_S:.0f} s; expected a store that does: check the address and the "
            "network, then run the same command again"
        ) from error
    except (ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{place}: {_explain(error, str(place))}") from None  # the answer may show a key's name


def _explain(error: Exception, place: str) -> str:
    """The rest of a sentence about a store that begins with its address."""
    text = str(error)
    code = re.search(r"(?:HTTP code |http_response_code=')(\d+)", text)
    cause = re.search(r"CURL error ([^:\[]+)", text)
    reason = f"it answers {code[1]}" if code else cause[1].strip() if cause else _first_words(text)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    where = f" at {endpoint} (AWS_ENDPOINT_URL)" if endpoint else ""
    if "NoSuchBucket" in text:
        return f"there is no such bucket{where}; expected one that exists: check its name and AWS_ENDPOINT_URL"
    if re.search(
        r"PERMISSION_DENIED|UNAUTHENTICATED|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|'40[13]'", text
    ):
        if place.startswith("http"):
            return "the server forbids to read it; expected an address that anyone may read: check it"
        how = "without credentials" if _credentials() == "anonymous" else "with the credentials that are set"
        return (
            f"access is forbidden {how}; expected leave to use it: check the bucket's name and set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY (Google: GOOGLE_APPLICATION_CREDENTIALS)"
        )
    if cause or "retry attempts" in text or "UNAVAILABLE" in text:
        return (
            f"cannot be reached ({reason}); expected a store that answers: check the address, AWS_ENDPOINT_URL and the "
            "network, then run the same command again"
        )
    return f"cannot be used ({reason}); expected a zarr or n5 store: check the address"


def _first_words(text: str) -> str:
    """The innermost message of a library, without details in brackets."""
    return re.sub(r"\s*\[.*", "", text, flags=re.DOTALL).splitlines()[0].rsplit(": ", 1)[-1][:150]
