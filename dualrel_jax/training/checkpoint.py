"""Checkpoints of the whole training state. The only file that imports Orbax."""

import errno
import textwrap
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from dualrel_jax.errors import InputError

BEST_BY = "jac_pooled"


class Checkpoints:
    """Checkpoints in `folder`, one a step: the newest `keep`, and the best by validation. A context manager.

    Saving is asynchronous and atomic: a checkpoint appears under its step's name when it is complete, so a process
    killed while saving leaves the one before. `clean` removes what such a process left; whoever only reads must not,
    for a training may be saving in this folder now.
    """

    def __init__(self, folder: str | Path, keep: int = 2, clean: bool = False):
        policies = ocp.training.preservation_policies
        self._folder = Path(folder).absolute()
        self._checkpointer = ocp.training.Checkpointer(
            self._folder,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(keep),
                    policies.BestN(get_metric_fn=lambda m: m[BEST_BY], n=1, keep_checkpoints_without_metrics=False),
                ]
            ),
            cleanup_tmp_directories=clean,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self._checkpointer.close()
        except (OSError, ValueError) as failed:
            raise _explained(failed, self._folder) from failed

    def save(self, step: int, state: Any, metrics: dict[str, float] | None = None) -> None:
        """Starts saving `state`, in place of an unreadable checkpoint of that step; waits for the save before it.

        `metrics` (with BEST_BY) make it eligible as best.
        """
        try:
            self.wait()
            self._checkpointer.save_async(step, state, force=True, overwrite=True, metrics=metrics)
        except (OSError, ValueError) as error:
            raise _explained(error, self._folder) from error

    def wait(self) -> None:
        """Returns when the last save is on disk."""
        try:
            self._checkpointer.wait()
        except (OSError, ValueError) as error:
            raise _explained(error, self._folder) from error

    def restore(self, abstract_state: Any, which: str = "last") -> tuple[int, Any] | None:
        """(step, state) of the last or best good checkpoint, or None if there is none.

        A checkpoint that cannot be read is named, and the next newest one is used.
        """
        if which not in ("last", "best"):
            raise InputError(f"config.predict.checkpoint is {which!r}; expected last or best.")
        checkpoints = list(self._checkpointer.checkpoints)
        checkpoints.sort(key=lambda c: c.step, reverse=True)
        if which == "best":
            if checkpoints and not any(checkpoint.metrics for checkpoint in checkpoints):
                raise InputError(
                    f"config.predict.checkpoint is best; expected last: no checkpoint in {self._folder} was scored on "
                    "validation slices."
                )
            checkpoints.sort(key=lambda c: -1.0 if not c.metrics else c.metrics[BEST_BY], reverse=True)
        for checkpoint in checkpoints:
            try:
                return checkpoint.step, self._checkpointer.load(checkpoint.step, abstract_state)
            except Exception as error:  # Orbax and tensorstore raise many kinds.
                if "RESOURCE_EXHAUSTED" in str(error):
                    raise
                why = textwrap.shorten(str(error), 200)  # Orbax may quote the whole state
                print(f"The checkpoint {self._folder / str(checkpoint.step)} cannot be read and is skipped: {why}")
        if checkpoints:
            raise InputError(
                f"None of the {len(checkpoints)} checkpoints in {self._folder} can be read; remove that folder to "
                "start anew, or restore it from a backup."
            )
        return None


def abstract(state: Any, sharding: jax.sharding.Sharding) -> Any:
    """Shapes, types and placement of a state (arrays or ShapeDtypeStructs) that a checkpoint is to be restored as."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def _explained(error: Exception, folder: Path) -> Exception:
    """A full disk as a sentence; any other error as it is."""
    text = str(error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in text or "ENOSPC" in text or "RESOURCE_EXHAUSTED" in text:
        return InputError(
            f"The disk of {folder} is full: the checkpoint could not be written. Make room and run the same command "
            "again; it continues from the last complete checkpoint."
        )
    return error
