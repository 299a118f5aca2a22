"""What a step takes and sends: compiled once, told before it starts, a full device explained, few exchanges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.data.pipeline.augment import RawBatch
from dualrel_jax.errors import InputError
from dualrel_jax.methods import create_method
from dualrel_jax.train import make_train_step
from dualrel_jax.training import hlo, memory
from dualrel_jax.training.state import abstract_state, create_optimizer, params_of
from dualrel_jax.utils import sharding


def test_a_step_compiles_once_and_says_what_it_needs(capsys):
    compiled = []
    count = lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(count)
    state = jnp.ones((1024, 1024))
    step = memory.CompiledStep(functools.partial(jax.jit(lambda x, seed: x + seed, donate_argnums=0), seed=2.0))
    compiled.clear()
    for _ in range(3):
        state = step(state)
    assert len(compiled) == 1
    assert float(state[0, 0]) == 7
    # The donated megapixel of float32 is counted once.
    assert capsys.readouterr().out == f"{memory.COMPILING}\nThis training needs about 4 MiB on each device.\n"
    assert memory.needed_mib(step.compiled) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize(
    ("own", "limits"),
    [
        ("0::/slurm/job_7/step_0\n", {"slurm/memory.max": "max", "slurm/job_7/memory.max": "4096"}),
        ("2:cpu:/\n4:cpuacct,memory:/slurm/job_7\n", {"memory/slurm/memory.limit_in_bytes": "4096"}),
        ("0::/\n", {"memory.max": "4096"}),
        (None, {"memory.max": "4096"}),
    ],
)
def test_the_limit_of_a_job_or_a_container_is_found(tmp_path, monkeypatch, own, limits):
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "own")
    if own:
        (tmp_path / "own").write_text(own)
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.available_bytes() == 4096


def test_a_step_prints_that_it_compiles_before_it_does(capsys):
    printed = []

    @jax.jit
    def traced(x):
        printed.append(capsys.readouterr().out)  # while it is traced, before it is compiled
        return x

    memory.CompiledStep(functools.partial(traced))(jnp.ones(2))
    assert printed == [memory.COMPILING + "\n"]


def test_a_full_device_names_the_fields_to_lower():
    config = config_lib.resolve(dualrel_jax.get_config("dualrel:phantom"))
    with pytest.raises(InputError) as error, memory.explain_out_of_memory(config):
        jnp.zeros((1 << 45,)).block_until_ready()
    assert "config.train.crop_px (256), --config.train.batch_unlabelled (4)" in str(error.value)
    assert "--config.size than tiny" in str(error.value)


def test_other_errors_of_a_device_pass():
    config = config_lib.resolve(dualrel_jax.get_config("dualrel:phantom"))
    with pytest.raises(jax.errors.JaxRuntimeError), memory.explain_out_of_memory(config):
        raise jax.errors.JaxRuntimeError("INTERNAL: lost")


@pytest.mark.slow
def test_devices_exchange_the_gradient_and_nothing_of_the_size_of_features():
    config = dualrel_jax.get_config("dualrel:phantom")
    config.model.update({"stem": 1, "width": 8, "depth": 2, "dtype": "float32"})
    config.train.update({"crop_px": 16, "batch_labelled": 4, "batch_unlabelled": 4, "steps": 9, "optimizer": "adamw"})
    config.method.update({"feature_level": 1, "num_prototypes": 4, "num_references": 8, "dim": 8})
    config = config_lib.resolve(config)
    mesh, method = sharding.create_mesh(4), create_method(config)

    class Crops:
        def crops(self, data, key):
            return data

    state = abstract_state(method, config)
    crops = jax.ShapeDtypeStruct((4, 16, 16), np.uint8)
    step = make_train_step(method, create_optimizer(method, config.train), Crops(), config, mesh)
    text = step.func.lower(state, RawBatch(crops, crops, crops), **step.keywords).compile().as_text()
    sent = hlo.communication(text)
    gradient = sum(4 * leaf.size for leaf in jax.tree.leaves(params_of(state.variables)))
    reduced = sum(size for kind, size, _ in sent if kind == "all-reduce")
    assert gradient <= reduced < 1.1 * gradient + 1000  # the rest: sums of losses, and scalars to log
    # CutMix pastes crops of other devices: an image and the teacher's two opinions. The reference points are chosen
    # from the usage of all images together.
    crop, usage = 16 * 16 * 4, 8 * 8 * 4
    assert sum(size for kind, size, _ in sent if kind == "collective-permute") <= 5 * crop
    assert sum(size for kind, size, _ in sent if kind not in ("collective-permute", "all-reduce")) <= 4 * usage
