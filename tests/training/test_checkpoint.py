"""Checkpoints: what counts as damage, which is best, and states of older versions."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualrel_jax.errors import InputError
from dualrel_jax.training.checkpoint import Checkpoints, abstract
from dualrel_jax.training.state import SkippedSteps

STATE = {"a": np.arange(12.0, dtype=np.float32), "b": {"c": np.ones(3, np.float32)}}
DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


@pytest.fixture
def folder(tmp_path):
    """A folder with checkpoints 1 and 2."""
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, STATE)
    return tmp_path


def restore(folder, state=STATE, which="last"):
    with Checkpoints(folder, keep=3) as checkpoints:
        return checkpoints.restore(abstract(state, DEVICE), which)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path):
    path.write_bytes(bytes(byte ^ 0x5A for byte in path.read_bytes()))


@pytest.mark.parametrize(
    ("pattern", "change"),
    [("d/*", halve), ("manifest.ocdbt", garble), ("d/*", lambda path: path.unlink()), ("_METADATA", halve)],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(folder, capsys, pattern, change):
    for path in (folder / "2" / "state").rglob(pattern):
        change(path)
    step, state = restore(folder)
    assert step == 1
    jax.tree.map(np.testing.assert_array_equal, state, STATE)
    assert f"{folder / '2'} cannot be read and is skipped" in capsys.readouterr().out


def test_the_state_of_another_network_is_no_damage(folder):
    for other in ({**STATE, "a": np.ones((2, 2), np.float32)}, {"a": STATE["a"]}, {**STATE, "z": STATE["a"]}):
        with pytest.raises(InputError, match="2 holds the state of another network.*version of dualrel_jax"):
            restore(folder, other)


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: full"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_damage_passes_as_it_is(folder, error):
    def load(*_):
        raise LookupError("wrapped, as Orbax does") from error

    with Checkpoints(folder, keep=3) as checkpoints:
        checkpoints._checkpointer.load = load
        with pytest.raises(type(error)):
            checkpoints.restore(abstract(STATE, DEVICE))


class Old(flax.struct.PyTreeNode):
    step: jax.Array


class New(flax.struct.PyTreeNode):
    step: jax.Array
    skipped: SkippedSteps


def test_a_field_younger_than_the_checkpoint_starts_at_zero(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, Old(jnp.int32(4)))
    step, state = restore(tmp_path, New(jnp.int32(0), SkippedSteps(jnp.int32(9), jnp.int32(9))))
    assert (step, int(state.step), int(state.skipped.in_a_row), int(state.skipped.total)) == (4, 4, 0, 0)


def test_the_best_is_that_of_the_highest_score_by_either_name(tmp_path):
    metrics = {
        1: {"jac_pooled": 0.9, "jac_calibrated": 0.6},
        2: {"jac_pooled": 0.7, "jac_calibrated": 0.8},
        3: {"jac_pooled": 0.7},
    }
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step, scores in metrics.items():
            checkpoints.save(step, STATE, scores)
    assert restore(tmp_path, which="best")[0] == 2
