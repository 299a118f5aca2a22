"""SIGINT and SIGTERM end a command with one sentence and exit code 130 or 143.

A command asks `check` or `requested` at places where it may stop. Where it does not reach one in time, as while XLA
compiles, the process ends all the same: every file of this package is whole or absent at any moment (`utils.atomic`).
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from dualrel_jax.utils import atomic, lock

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_S = 5.0  # after a signal, to the end of a slice, a box or a block
UNWIND_S = 10.0  # from the moment a command stops itself until it must have ended
SAVE_S = 60.0  # the same, where it saves its work first
_CLEAN_UP_S = 2.0


class Stopped(KeyboardInterrupt):
    """Raised where a command stops itself after a signal."""


class _State:
    """What is known of the command that runs now."""

    def __init__(self):
        self.received = 0  # the first signal
        self.sentence = "Stopped; the same command starts again."
        self.patience_s = 1.0  # from the signal to the next `check`
        self.extension_s = 0.0  # from now, in place of what is left of the patience
        self.again = threading.Event()  # a second signal came
        self.ended = threading.Event()


_state = _State()


def describe(sentence: str, patience_s: float | None = None) -> None:
    """Sets what a command that is stopped from now on says, and how long it may take to its next `check`."""
    _state.sentence = sentence
    if patience_s is not None:
        _state.patience_s = patience_s


def requested() -> bool:
    """Whether a signal asked this command to stop."""
    return bool(_state.received)


def check(unwind_s: float = UNWIND_S) -> None:
    """Raises Stopped if a signal asked this command to stop, which then must end within `unwind_s`."""
    if _state.received:
        allow(unwind_s)
        raise Stopped


def allow(seconds: float) -> None:
    """Gives a command that is about to stop itself so many seconds from now."""
    _state.extension_s = seconds


def end_at_once() -> None:
    """Until `listening`, signals end the process at once: for a program that has just started."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda received, _: end_process(_state.sentence, 128 + received))


def run_command(command: Callable[[], int], as_program: bool) -> int:
    """Runs `command`; -> its exit code, or 130 or 143 after a sentence where a signal stopped it.

    Args:
        as_program: nothing comes after it: where it is stopped, the process ends here.
    """
    with listening(restore=not as_program):
        try:
            return command()
        except KeyboardInterrupt:
            code = 128 + (_state.received or signal.SIGINT)
            if as_program:
                end_process(_state.sentence, code)
            print(f"dualrel: {_state.sentence}", file=sys.stderr)
            return code


@contextlib.contextmanager
def listening(restore: bool = True) -> Iterator[None]:
    """In this context signals are answered as this module says; only in the main thread, and not those ignored.

    Args:
        restore: give the signals back to the handlers before; else they end the process, which ends anyway.
    """
    global _state
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state = _State()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    earlier_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    earlier = arm()
    threading.Thread(target=_watch, args=(_state, reader), name="signals", daemon=True).start()
    try:
        yield
    finally:
        _state.ended.set()
        for number, handler in earlier.items():
            signal.signal(number, handler if restore else signal.SIG_DFL)
        signal.set_wakeup_fd(earlier_writer)
        os.close(writer)  # ends the thread


def arm() -> dict[int, object]:
    """Takes the signals over from whatever handles them; -> number -> the handler before.

    The handler does nothing: Python writes the number of a signal to the pipe of `listening` at once, even while the
    main thread is in compiled code and can run no handler.
    """
    taken = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, lambda *_: None) for number in taken}


def _watch(state: _State, reader: int) -> None:
    """Waits for signals; ends the process where the command does not end itself."""
    while number := os.read(reader, 1):
        if number[0] not in SIGNALS:
            continue
        if state.received:
            state.again.set()
            continue
        state.received = number[0]
        threading.Thread(target=_end_in_time, args=(state,), name="stop", daemon=True).start()
    os.close(reader)


def _end_in_time(state: _State) -> None:
    deadline_s, waited_s, step_s = state.patience_s, 0.0, 0.05
    while waited_s < deadline_s and not state.again.is_set():
        if state.ended.wait(step_s):
            return
        waited_s += step_s
        if state.extension_s:
            deadline_s, state.extension_s = waited_s + state.extension_s, 0.0
    end_process(state.sentence, 128 + state.received)


def end_process(sentence: str, code: int) -> None:
    """Removes unfinished files and locks, writes the sentence, and ends the process at once."""

    def clean_up() -> None:
        atomic.remove_unfinished()
        lock.release_all()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()

    thread = threading.Thread(target=clean_up, daemon=True)  # the main thread may hold what it waits for
    thread.start()
    thread.join(_CLEAN_UP_S)
    with contextlib.suppress(OSError):
        os.write(2, f"{_end_of_bar()}dualrel: {sentence}\n".encode("ascii", "replace"))
    os._exit(code)


def _end_of_bar() -> str:
    """A line break where a progress bar is on the screen."""
    bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
    return "\n" if len(bars) else ""
