"""Which boxes of a prediction by tasks are done, on disk: a line each, so that any of them may be the next."""

import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dualrel_jax.errors import InputError
from dualrel_jax.inference.resume import check_same_job
from dualrel_jax.inference.windows import TaskBox
from dualrel_jax.utils import interrupt
from dualrel_jax.utils.atomic import write_text


class BoxProgress:
    """The done boxes of a prediction, kept in a file until all are.

    Args:
        path: the file: the job, then each box as it ends.
        job: what the work depends on, for JSON: name -> value.
        parts: what the earlier work wrote; where one of them is gone, it starts again.

    Attributes:
        continued: whether there is earlier work to continue.
        threshold: that of the earlier work; None: not known yet.

    Raises:
        InputError: the earlier work was another job, or the file is damaged.
    """

    def __init__(self, path: Path, job: dict, parts: Sequence[Path]):
        self._path, self._job, self._done, self._file = path, job, set(), None
        self.threshold = None
        self.continued = path.exists() and all(part.exists() for part in parts)
        if self.continued:
            self._read()
        self._bar = tqdm(disable=True)

    def _read(self) -> None:
        job, *records = self._records()
        check_same_job(self._path, job, self._job)
        for record in records:
            if "threshold" in record:
                self.threshold = record["threshold"]
            else:
                self._done.add(record["box"])

    def _records(self) -> list[dict]:
        """The whole lines; a last one that a kill cut short is left out."""
        records = []
        for line in self._path.read_text(encoding="utf-8").split("\n")[:-1]:
            try:
                records.append(json.loads(line))
            except ValueError:
                records = []
                break
        if not records or not all(isinstance(record, dict) for record in records):
            raise InputError(f"{self._path} is damaged; delete it, and the prediction starts again.")
        return records

    def is_done(self, box: TaskBox) -> bool:
        return box.text in self._done

    def start(self, slices: int, slices_done: int) -> None:
        """Shows a bar of so many slices, and keeps the file from now on."""
        records = self._records() if self.continued else [self._job]
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in records))
        self._file = self._path.open("a", encoding="utf-8")
        self._bar = tqdm(total=slices, initial=slices_done, desc="predict", unit="slice", mininterval=2)
        self._describe()

    def decide(self, threshold: float) -> None:
        """The threshold of all boxes from now on, also of a command that continues."""
        self.threshold = threshold
        self._append({"threshold": threshold})

    def finished(self, box: TaskBox) -> None:
        """A box is on disk."""
        self._append({"box": box.text})
        self._bar.update(box.z[1] - box.z[0])
        self._describe()

    def _append(self, record: dict) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def _describe(self) -> None:
        interrupt.describe(
            f"Stopped at slice {self._bar.n} of {self._bar.total}; the same command continues.",
            patience_s=interrupt.PATIENCE_S,
        )

    def close(self) -> None:
        """Ends the bar; the file stays, for the next call to continue."""
        self._bar.close()
        if self._file is not None:
            self._file.close()

    def complete(self) -> None:
        """All is done: nothing is left to continue."""
        self.close()
        self._path.unlink(missing_ok=True)
