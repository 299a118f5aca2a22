"""Checkpoints of the whole training state. The only file that imports Orbax."""

import dataclasses
import errno
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from dualrel_jax.constants import BEST_BY
from dualrel_jax.errors import InputError

# What tensorstore reports of files that are not what was written; anything else (no permission, no memory, a network
# file system that is gone) is no damage, and another checkpoint would not help.
_DAMAGE = ("DATA_LOSS", "NOT_FOUND", "OUT_OF_RANGE", "FAILED_PRECONDITION", "INVALID_ARGUMENT")
_STATUS = re.compile(r"[A-Z_]+: ")  # how tensorstore begins


class Checkpoints:
    """Checkpoints in `folder`, one per step: the newest `keep`, and the best by validation. A context manager.

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
                    policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
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

        `metrics` (one of BEST_BY) make it eligible as best.
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

    def restore(self, abstract_state: Any, which: str = "last", partial: bool = False) -> tuple[int, Any] | None:
        """(step, state) of the last or best good checkpoint, or None if there is none.

        A damaged checkpoint is named, and the next newest one is used. Fields of the state that are younger than the
        checkpoint start at 0. InputError if it holds another state; any other error passes as it is. `partial`: only
        what `abstract_state` has is read, whatever else the checkpoint holds.
        """
        checkpoints = list(self._checkpointer.checkpoints)
        checkpoints.sort(key=lambda c: c.step, reverse=True)
        if which == "best":
            if checkpoints and not any(checkpoint.metrics for checkpoint in checkpoints):
                raise InputError(
                    f"config.predict.checkpoint is best; expected last: no checkpoint in {self._folder} was scored on "
                    "validation slices."
                )
            checkpoints.sort(key=lambda c: _score(c.metrics) if c.metrics else -1.0, reverse=True)
        for checkpoint in checkpoints:
            try:
                return checkpoint.step, self._load(checkpoint.step, abstract_state, partial)
            except (ValueError, LookupError, OSError) as error:  # Orbax wraps the cause in errors of several kinds
                cause = _root(error)
                why = textwrap.shorten(str(cause), 200)  # it may quote the whole state
                name = self._folder / str(checkpoint.step)
                if _is_damage(error):
                    print(f"The checkpoint {name} cannot be read and is skipped: {why}")
                elif isinstance(cause, ValueError) and not _STATUS.match(str(cause)):
                    raise InputError(
                        f"The checkpoint {name} holds the state of another network or optimiser than this config's; "
                        f"use the version of dualrel_jax in run.json, or train in a new --workdir ({why})"
                    ) from error
                else:
                    raise cause from error
        if checkpoints:
            raise InputError(
                f"None of the {len(checkpoints)} checkpoints in {self._folder} can be read; remove that folder to "
                "start anew, or restore it from a backup."
            )
        return None

    def _load(self, step: int, abstract_state: Any, partial: bool) -> Any:
        if partial:
            context = ocp.Context()
            context.pytree.loading.partial_load = True
            with context:
                return self._checkpointer.load(step, abstract_state)
        stored = self._checkpointer.metadata(step).metadata
        fields = [field.name for field in dataclasses.fields(abstract_state)] if _is_struct(abstract_state) else []
        # None where the list of what is stored cannot be read: loading then says why.
        young = [] if stored is None else [name for name in fields if name not in stored]
        if not young:
            return self._checkpointer.load(step, abstract_state)
        known = {name: getattr(abstract_state, name) for name in fields if name not in young}
        zero = lambda x: jnp.zeros(x.shape, x.dtype, device=x.sharding)  # noqa: E731
        zeros = {name: jax.tree.map(zero, getattr(abstract_state, name)) for name in young}
        return abstract_state.replace(**self._checkpointer.load(step, known), **zeros)


def abstract(state: Any, sharding: jax.sharding.Sharding) -> Any:
    """Shapes, types and placement of a state (arrays or ShapeDtypeStructs) that a checkpoint is to be restored as."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def _score(metrics: dict[str, float]) -> float:
    return next((metrics[name] for name in BEST_BY if name in metrics), -1.0)


def _is_struct(state: Any) -> bool:
    return dataclasses.is_dataclass(state) and hasattr(state, "replace")


def _chain(error: BaseException) -> list[BaseException]:
    """The error, and those it was raised from."""
    errors = [error]
    while (before := errors[-1].__cause__ or errors[-1].__context__) is not None:
        errors.append(before)
    return errors


def _root(error: BaseException) -> BaseException:
    return _chain(error)[-1]


def _is_damage(error: BaseException) -> bool:
    """Whether a file of a checkpoint is missing, cut short or changed."""
    return any(
        isinstance(cause, json.JSONDecodeError | UnicodeDecodeError | FileNotFoundError)
        or (isinstance(cause, ValueError) and str(cause).startswith(_DAMAGE))
        or "No valid PyTree" in str(cause)
        for cause in _chain(error)
    )


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
