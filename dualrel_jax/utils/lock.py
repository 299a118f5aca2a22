"""One writer at a time for a folder or an output, on one machine or several that share a file system.

The lock is a hidden file that its holder locks by `flock`, which the system releases when the process ends, however it
ends. The file also names the process and its host, for file systems whose `flock` is missing or unknown to other hosts:
there the process is looked up on the same host, and on another one the file must have been touched recently.
"""

import contextlib
import errno
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dualrel_jax.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: the record in the file alone
    fcntl = None

HEARTBEAT_S = 20.0  # the holder touches its file this often
STALE_S = 120.0  # the file of another host that was not touched for so long was left by a killed process
_SETTLE_S = 0.2  # without flock: of several processes that write the record at once, the last one holds it
_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)

_guard = threading.RLock()
_held: dict[Path, "_Lock"] = {}


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock, as its file records it."""

    pid: int
    host: str
    started: str  # tells it from a later process with the same number


@dataclass
class _Lock:
    file: int
    owner: Owner
    thread: int
    depth: int = 1


@contextlib.contextmanager
def folder_writer(folder: str | Path, wait_s: float = 0.0) -> Iterator[None]:
    """Holds `folder` as its only writer, by `<folder>/.lock`. The thread that holds it may take it again.

    Args:
        wait_s: how long to wait for another writer to end.

    Raises:
        InputError: another process or thread writes there.
        OSError: the folder cannot be made or written.
    """
    with _holding(Path(folder) / ".lock", Path(folder), "--workdir", wait_s):
        yield


@contextlib.contextmanager
def file_writer(path: str | Path, option: str) -> Iterator[None]:
    """Holds an output as its only writer, with the files beside it that bear its name and another suffix.

    Args:
        option: the flag that names another output, for the error.

    Raises:
        InputError: another process or thread writes there.
        OSError: its folder cannot be made or written.
    """
    path = Path(path)
    with _holding(path.with_name(f".{path.stem}.lock"), path, option, 0.0):
        yield


def release_all() -> None:
    """Gives every lock back: called when the process ends at once, without leaving its contexts."""
    for path, lock in list(_held.items()):
        lock.depth = 1
        with contextlib.suppress(OSError):
            _release(path)


@contextlib.contextmanager
def _holding(path: Path, target: Path, option: str, wait_s: float) -> Iterator[None]:
    path = Path(os.path.abspath(path.expanduser()))
    made = _make_folders(path.parent)
    try:
        _acquire(path, target, option, wait_s)
        try:
            yield
        finally:
            _release(path)
    finally:
        for folder in made:  # of a command that was refused before it wrote anything
            with contextlib.suppress(OSError):
                folder.rmdir()


def _make_folders(folder: Path) -> list[Path]:
    """Creates `folder`; -> what had to be created, the innermost first."""
    made = []
    for parent in (folder, *folder.parents):
        if parent.exists():
            break
        made.append(parent)
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _acquire(path: Path, target: Path, option: str, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        with _guard:
            mine = _held.get(path)
            if mine and mine.thread == threading.get_ident():
                mine.depth += 1
                return
            other = mine.owner if mine else _take(path)
            if other is None:
                return
        if time.monotonic() >= deadline:
            raise InputError(_refusal(path, target, option, other))
        time.sleep(0.1)


def _refusal(path: Path, target: Path, option: str, owner: Owner) -> str:
    who = f"process {owner.pid} on {owner.host}" if owner.pid else "a process that has just started"
    sentence = (
        f"{target} is being written by another command ({who}); wait until that ends, stop it, or name another place "
        f"with {option}"
    )
    if owner.host and owner.host != platform.node():
        return f"{sentence}; if it runs no longer, delete {path}, or wait {STALE_S / 60:.0f} minutes."
    return f"{sentence}."


def _take(path: Path) -> Owner | None:
    """Takes the lock; -> None, or the owner who has it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _flock(file)
            owner = _read(path)
            if locked is False:
                return owner or Owner(0, "", "")
            if locked and not _is_same_file(file, path):
                continue  # its holder removed it meanwhile
            if owner and _is_alive(owner, path, flock_is_free=locked is True):
                return owner
            if owner:
                _remove_parts(owner, path.parent)
            me = Owner(os.getpid(), platform.node(), _started(os.getpid()))
            os.ftruncate(file, 0)
            os.write(file, json.dumps(asdict(me)).encode())  # this descriptor is new: at the start of the file
            if not locked:
                time.sleep(_SETTLE_S)
                if (winner := _read(path)) != me:
                    return winner or Owner(0, "", "")
            _held[path] = _Lock(file, me, threading.get_ident())
            file = None
            _beat()
            return None
        finally:
            if file is not None:
                os.close(file)


def _remove_parts(killed: Owner, folder: Path) -> None:
    """Removes what the killed holder of a lock was writing by `atomic.replacing`."""
    for place in (folder, folder / "pictures"):
        for part in place.glob(f"*.{killed.pid}.part"):
            part.unlink(missing_ok=True)


def _flock(file: int) -> bool | None:
    """True: locked; False: another process has it; None: this file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return None
        if error.errno in _BUSY:
            return False
        raise
    return True


def _is_same_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _read(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_alive(owner: Owner, path: Path, flock_is_free: bool) -> bool:
    """Whether the recorded process may still write, given whether this host's `flock` was free."""
    if owner.host != platform.node():
        return _age_s(path) < STALE_S
    if flock_is_free:
        return False
    if owner.pid == os.getpid():
        return path in _held
    return _started(owner.pid) == owner.started


def _age_s(path: Path) -> float:
    """Seconds since the file was touched, by the clock of the file system, which may not be that of this host."""
    probe = path.with_name(f"{path.name}.{os.getpid()}.probe")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return STALE_S
    finally:
        probe.unlink(missing_ok=True)


def _started(pid: int) -> str:
    """When a process began, in a form to compare; empty where it does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    if os.name == "nt":
        return "unknown"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:  # of another user
        pass
    return "" if Path("/proc/self/stat").exists() else "unknown"


def _release(path: Path) -> None:
    with _guard:
        mine = _held[path]
        mine.depth -= 1
        if mine.depth:
            return
        del _held[path]
        if fcntl is None:  # Windows removes no file that is open
            os.close(mine.file)
        if _read(path) == mine.owner:
            path.unlink(missing_ok=True)
        if fcntl is not None:
            os.close(mine.file)


_heart: threading.Thread | None = None


def _beat() -> None:
    """Starts the thread that touches the files of held locks."""
    global _heart
    if _heart is None or not _heart.is_alive():  # a forked process has none
        _heart = threading.Thread(target=_touch_held, name="lock heartbeat", daemon=True)
        _heart.start()


def _touch_held() -> None:
    while True:
        time.sleep(HEARTBEAT_S)
        for path in list(_held):
            with contextlib.suppress(OSError):
                os.utime(path)
