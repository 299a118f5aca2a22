"""Standard output and error that never end a command: closed ones, and those of a terminal that lacks a character."""

import codecs
import contextlib
import io
import os
import sys

_PLAIN = {"µ": "u", "μ": "u", "±": "+-", "×": "x", "–": "-", "—": "-", "→": "->", "…": "...", "²": "2", "³": "3"}


def make_safe() -> None:
    """Makes sys.stdout and sys.stderr, where they are those of the process, take every text at any time.

    What an encoding lacks is written as ASCII that reads alike, or as `?`. After the reader of a pipe has gone, as in
    `dualrel ... | head`, output goes nowhere and the work goes on. Lines appear when they are complete.
    """
    codecs.register_error("plain", _plain)
    _fill_standard_files()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors="replace"))
        elif isinstance(stream, _Stream) or stream is not getattr(sys, f"__{name}__"):
            continue  # a notebook's, or that of a test
        elif os.name == "nt" and stream.isatty():
            stream.reconfigure(errors="plain", line_buffering=True)
        else:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
            file = open(stream.fileno(), "wb", closefd=False)
            safe = _Stream(file, encoding=stream.encoding, errors="plain", line_buffering=True)
            setattr(sys, name, safe)
            setattr(sys, f"__{name}__", safe)


class _Stream(io.TextIOWrapper):
    """A text stream whose writing does not fail."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BlockingIOError:
            pass  # a pipe that is full, and set not to wait
        except OSError:
            self._discard()
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BlockingIOError:
            pass  # a pipe that is full, and set not to wait
        except OSError:
            self._discard()

    def _discard(self) -> None:
        """From now on what is written goes nowhere: no file behind this stream takes it."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


def _fill_standard_files() -> None:
    """Opens those of the descriptors 0, 1 and 2 that are closed: the next file opened would become the output."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(file)
