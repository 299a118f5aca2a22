"""One computation at a time beside the viewer: a thread, or a training in a process of its own."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QProcess

_STEP = re.compile(r"step (\d+)/(\d+)")  # in the output of a training


class Jobs:
    """Starts computations for `panel`, a `DualRelWidget`.

    Attributes:
        worker: of the computation in a thread; None: there is none.
        process: of a training; None: there is none.
    """

    def __init__(self, panel: Any):
        self._panel = panel
        self.worker, self.process = None, None
        self._gives_way, self._next = False, None

    @property
    def is_idle(self) -> bool:
        return self.worker is None and self.process is None

    @property
    def is_previewing(self) -> bool:
        """Whether the computation in the thread is one that gives way to others."""
        return self.worker is not None and self._gives_way

    def start(self, function: Callable, *arguments: Any, then: Callable, gives_way: bool = False) -> None:
        """Runs `function(*arguments)` in a thread, then `then(result)` in this one.

        What the function yields goes to `panel.advance`. A computation that `gives_way` is stopped for the next one.
        """
        if self.worker is not None:
            self._next = (function, arguments, then, gives_way)
            self.worker.quit()
            return
        self._gives_way = gives_way
        self._panel.set_busy(True, interruptible=gives_way)
        connect = {
            "returned": lambda result: self._panel.attempt(then, result),
            "errored": self._panel.fail,
            "finished": self._rest,
        }
        self.worker = create_worker(function, *arguments, _start_thread=False, _connect=connect)
        if hasattr(self.worker, "yielded"):
            self.worker.yielded.connect(self._panel.advance)
        self.worker.start()

    def _rest(self) -> None:
        stopped, self.worker = self.worker.abort_requested, None
        following, self._next = self._next, None
        if following is not None:
            function, arguments, then, gives_way = following
            self.start(function, *arguments, then=then, gives_way=gives_way)
            return
        if stopped:
            self._panel.say("Stopped.")
        self._panel.set_busy(self.process is not None)

    def train(self, command: Sequence[str], ended: Callable[[int | None], None]) -> None:
        """Runs a training; `ended` gets its exit code, or None if it was stopped."""
        self._panel.log.value, self._panel.log.visible = "", True
        self.process = QProcess(self._panel.native)  # ends with the panel
        self.process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        self.process.readyRead.connect(self._read)
        self._ended = ended
        self.process.finished.connect(self._trained)
        self._panel.set_busy(True)
        self.process.start(command[0], list(command[1:]))

    def _read(self) -> None:
        text = bytes(self.process.readAll()).decode(errors="replace")
        if text.strip():
            self._panel.log.native.append(text.rstrip())
        for done, total in _STEP.findall(text):
            self._panel.show_progress(int(done), int(total))

    def _trained(self, code: int, *_: Any) -> None:
        self._read()
        process, self.process = self.process, None
        self._panel.set_busy(False)
        self._ended(code if process.exitStatus() == QProcess.ExitStatus.NormalExit else None)

    def cancel(self) -> None:
        self._next = None
        if self.worker is not None:
            self.worker.quit()
            self._panel.say("Stopping after the current slice.")
        if self.process is not None:
            self.process.kill()

    def close(self) -> None:
        """Stops thread and training, and disconnects both from a panel that is gone."""
        self._next = None
        if self.worker is not None:
            self.worker.quit()
            self.worker.finished.disconnect(self._rest)
            self.worker.errored.disconnect(self._panel.fail)
            if hasattr(self.worker, "yielded"):
                self.worker.yielded.disconnect(self._panel.advance)
        if self.process is not None:
            self.process.readyRead.disconnect(self._read)
            self.process.finished.disconnect(self._trained)
            self.process.kill()
