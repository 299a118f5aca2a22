"""Benchmarks: the PyTorch twin computes what ours does, the arithmetic by hand is right, and all of them run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualrel_jax.methods import create_method
from dualrel_jax.methods.base import unet
from dualrel_jax.training.state import TrainState, abstract_state, create_optimizer, params_of
from perf import workload
from perf.__main__ import NAMES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def twin():
    pytest.importorskip("torch")
    from perf import twin

    return twin


@pytest.fixture
def twin_step(twin):
    from perf import twin_step

    return twin_step


def case(optimizer="adamw"):
    """(config, method, state) of random parameters: as initialised, reliability would be equal everywhere."""
    config = workload.create_config("test", batch=3, optimizer=optimizer)
    with config.unlocked():
        # Few enough steps for no warm-up, so that the first moves; a teacher that remembers some of them.
        config.train.update({"steps": 9, "ema_fraction": 1.0})
    method, rng = create_method(config), np.random.default_rng(0)
    draw = lambda shape: rng.normal(size=shape.shape, scale=0.3).astype(np.float32)  # noqa: E731
    shapes = abstract_state(method, config)
    variables, teacher = (jax.tree.map(draw, shapes.variables) for _ in range(2))
    skipped = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes.skipped)
    moments = jax.jit(create_optimizer(method, config.train).init)(params_of(variables))
    return config, method, TrainState(np.int32(5), variables, teacher, moments, skipped)


def assert_equal_parameters(ours, network, twin, tolerance):
    found = network.state_dict()
    expected = twin.to_torch(ours)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=tolerance, rtol=0, err_msg=name)


def test_the_twin_is_the_same_function(twin):
    import torch

    config, method, state = case()
    image = workload.random_batch(config).image
    logits, prototypes, _ = jax.jit(method.networks["student"].apply)(state.variables["student"], image)
    network = twin.DualRelNetwork(config)
    network.load_state_dict(twin.to_torch(params_of(state.variables)["student"]))
    with torch.inference_mode():
        found, output = network(torch.from_numpy(np.moveaxis(np.array(image), -1, 1).copy()))
    np.testing.assert_allclose(np.moveaxis(found.numpy(), 1, -1), logits, atol=1e-4)
    np.testing.assert_allclose(output.prototypes, prototypes.prototypes, atol=1e-4)
    np.testing.assert_allclose(output.maps, prototypes.maps, atol=1e-4)


def test_a_step_of_the_twin_is_ours(twin, twin_step):
    config, method, state = case()
    batch, key = workload.random_batch(config), jax.random.key(3)
    label = np.array(batch.label)
    label[0, :5] = 255
    batch = batch._replace(label=jnp.asarray(label))
    training = twin_step.Training(config, state, channels_last=True)
    state, diagnostics = jax.jit(workload.make_step(method, config))(state, batch, key)
    terms = training(twin_step.to_batch(batch, method, key))
    assert {f"loss_{name}" for name in terms} == {name for name in diagnostics if name.startswith("loss_")}
    for name, value in terms.items():
        np.testing.assert_allclose(value.detach(), diagnostics[f"loss_{name}"], atol=1e-4, err_msg=name)
    assert_equal_parameters(params_of(state.variables)["student"], training.student, twin, 1e-4)
    assert_equal_parameters(params_of(state.teacher)["student"], training.teacher, twin, 1e-4)


def test_muon_of_the_twin_is_ours(twin, twin_step):
    """Two updates by given gradients: the second also sees what the first left behind."""
    config, method, state = case("muon")
    params, moments = params_of(state.variables), state.opt_state
    network = twin.DualRelNetwork(config)
    network.load_state_dict(twin.to_torch(params["student"]))
    theirs = twin_step.Optimizer(network, config.train)
    update = jax.jit(create_optimizer(method, config.train).update)
    for gradients in (params_of(state.teacher), params):
        named = twin.to_torch(gradients["student"])
        theirs.step(tuple(named[name] for name, _ in network.named_parameters()))
        updates, moments = update(gradients, moments, params)
        params = jax.tree.map(lambda p, u: p + np.asarray(u), params, updates)
    assert_equal_parameters(params["student"], network, twin, 1e-5)


def test_operations_counted_by_hand_are_those_of_the_program():
    config = workload.create_config("tiny", 512)
    network, image = unet(config.model), jax.ShapeDtypeStruct((1, 512, 512, 1), np.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    counted = jax.jit(lambda v, x: network.apply(v, x).logits).lower(variables, image).cost_analysis()["flops"]
    assert workload.forward_flops(config) == pytest.approx(counted, rel=0.02)


@pytest.mark.slow
def test_all_benchmarks_run(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "tables.json"
    command = [sys.executable, "-m", "perf", "--quick", "--json", str(path)]
    environment = {**os.environ, "XLA_FLAGS": ""}  # one device, as users have
    subprocess.run(command, check=True, timeout=900, capture_output=True, env=environment, cwd=ROOT)
    records = json.loads(path.read_text())
    assert set(records) == set(NAMES)
    for record in records.values():
        for table in record["tables"]:
            assert table["rows"] and all(len(row) == len(table["columns"]) for row in table["rows"])
