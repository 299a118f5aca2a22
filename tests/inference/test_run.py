"""What is compiled once for a run."""

import types

from dualrel_jax.inference.run import Run


def run_of(method):
    return Run(None, None, method, None, None, 0, None)


def test_activations_are_jitted_once_for_a_run_and_none_without_prototypes():
    run = run_of(types.SimpleNamespace(activations=lambda variables, image: image + variables))
    assert run.activations is run.activations
    assert run.activations(1.0, 2.0) == 3
    assert run_of(types.SimpleNamespace()).activations is None
