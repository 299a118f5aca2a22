"""How far a prediction has come, on disk: the same command continues after a kill, another one is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dualrel_jax.data.io.remote import beside, remove
from dualrel_jax.errors import InputError
from dualrel_jax.utils import interrupt
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json


def check_same_job(path: Path, earlier: dict, job: dict) -> None:
    """InputError where the unfinished work that `path` records is another than `job`."""
    for name, value in json.loads(json.dumps(job)).items():
        if json.dumps(earlier.get(name)) != json.dumps(value):
            raise InputError(
                f"{path} belongs to an unfinished prediction with another {name} ({earlier.get(name)} there, "
                f"{value} now); repeat that command to continue it, or delete the file to start again."
            )


def progress_path(output: Path, in_tasks: bool) -> Path:
    """The file that records the unfinished work on `output`."""
    return beside(output).with_name(f"{output.name}.{'tasks.jsonl' if in_tasks else 'progress.json'}")


def check_no_other(path: Path, how: str) -> None:
    """InputError where `path` records unfinished work of the other kind, which this command would destroy."""
    if path.exists():
        raise InputError(
            f"{path} belongs to an unfinished prediction {how}; repeat that command to continue it, or delete the file "
            "to start again."
        )


def continue_or_clear(continued: bool, output: Path, parts: Sequence[Path]) -> None:
    """Prints that the earlier work on `output` continues, or removes the `parts` that are left of it."""
    if continued:
        print(f"{output}: continues where it was stopped.")
        return
    for part in parts:
        remove(part)


class PredictionProgress:
    """Blocks are finished in one order; their number is kept in a file until the work is done.

    Args:
        path: the file; None: nothing is kept.
        job: what the work depends on, for JSON: name -> value.
        parts: what the earlier work wrote; where one of them is gone, it starts again.

    Attributes:
        continued: whether there is earlier work to continue.

    Raises:
        InputError: the earlier work was another job.
    """

    def __init__(self, path: Path | None, job: dict, parts: Sequence[Path] = ()):
        self._path, self._job, self._done = path, job, 0
        self.continued = path is not None and path.exists() and all(part.exists() for part in parts)
        if self.continued:
            record = read_json(path, {"job": dict, "done": int}, "delete it, and the prediction starts again")
            check_same_job(path, record["job"], job)
            self._done = record["done"]
        self._skip = self._done
        self._bar = tqdm(desc="predict", unit="slice", mininterval=2, disable=True)

    def start(self, slices: int) -> None:
        """Shows a bar of so many slices, and keeps the file from now on."""
        self._bar = tqdm(total=slices, desc="predict", unit="slice", mininterval=2)
        self._save()
        self._describe()

    def remaining(self, blocks: Sequence[slice]) -> Sequence[slice]:
        """Those of the next blocks of the work, ranges of slices, that are still to be done."""
        done = min(self._skip, len(blocks))
        self._skip -= done
        self._bar.update(sum(block.stop - block.start for block in blocks[:done]))
        return blocks[done:]

    def step(self) -> None:
        """One more slice is computed: a place where the prediction stops after a signal."""
        self._bar.update()
        self._describe()
        interrupt.check()

    def finished(self) -> None:
        """One more block is on disk."""
        self._done += 1
        self._save()

    def _describe(self) -> None:
        then = "continues" if self._path else "starts again; one with a .zarr output would continue"
        interrupt.describe(
            f"Stopped at slice {self._bar.n} of {self._bar.total}; the same command {then}.",
            patience_s=interrupt.PATIENCE_S,
        )

    def close(self) -> None:
        """Ends the bar; the file stays, for the next call to continue."""
        self._bar.close()

    def complete(self) -> None:
        """All is done: nothing is left to continue."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _save(self) -> None:
        if self._path is not None:
            write_text(self._path, json.dumps({"job": self._job, "done": self._done}))
