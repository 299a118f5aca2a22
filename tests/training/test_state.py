"""The training state: a step that is not finite changes nothing of it, and is counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualrel_jax.training.state import SkippedSteps, TrainState, skip_unless_finite


def state(value, statistics=0.0, step=7, in_a_row=0, total=2):
    variables = {
        "student": {"params": {"kernel": jnp.full(3, value)}, "batch_stats": {"mean": jnp.full(2, statistics)}}
    }
    skipped = SkippedSteps(jnp.int32(in_a_row), jnp.int32(total))
    return TrainState(jnp.int32(step), variables, variables, {"moment": jnp.full(3, value)}, skipped)


guard = jax.jit(skip_unless_finite)


def test_a_finite_step_is_taken_and_ends_a_row_of_skipped_ones():
    kept = guard(state(1.0, in_a_row=2), state(2.0, step=8, in_a_row=2), {"loss": jnp.float32(0.5)})
    jax.tree.map(np.testing.assert_array_equal, kept, state(2.0, step=8, in_a_row=0))


@pytest.mark.parametrize(
    ("value", "statistics", "loss"),
    [(np.nan, 0.0, 0.5), (2.0, np.inf, 0.5), (2.0, 0.0, np.nan), (3e38, 0.0, 0.5)],
    ids=["parameters", "batch statistics", "loss", "parameters too large to square"],
)
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(value, statistics, loss):
    before, after = state(1.0, in_a_row=2), state(value, statistics, step=8, in_a_row=2)
    kept = guard(before, after, {"loss": jnp.float32(loss)})
    jax.tree.map(np.testing.assert_array_equal, kept, state(1.0, step=8, in_a_row=3, total=3))
