"""A profile says where a step's time goes; moments are shared, nothing is counted twice, scopes reach the program."""

from collections import Counter
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.config import schema
from dualrel_jax.data.pipeline.augment import Batch
from dualrel_jax.errors import InputError
from dualrel_jax.methods import create_method
from dualrel_jax.train import train
from dualrel_jax.training import hlo, profiling
from dualrel_jax.utils.jsonl import read_records


def test_every_moment_is_shared_by_what_runs_then():
    events = [(0, 10, "loop"), (2, 6, "a"), (4, 8, "b"), (20, 25, "a")]
    assert profiling.share(events, {"loop"}) == {"loop": 4, "a": 2 + 1 + 5, "b": 2 + 1}


def test_shares_add_up_to_the_time_in_which_anything_runs():
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 300, 40)
    events = [
        (int(s), int(s + d), f"op{i % 7}") for i, (s, d) in enumerate(zip(starts, rng.integers(1, 30, 40), strict=True))
    ]
    moments = np.zeros(400, bool)
    for start, end, _ in events:
        moments[start:end] = True
    assert sum(profiling.share(events, set()).values()) == pytest.approx(moments.sum())


def test_table_names_scopes_heaviest_operations_and_the_rest():
    operation = lambda *path, backward=False: hlo.Operation("fusion", "f32[4,8]{1,0}", [], path, backward)  # noqa: E731
    program = hlo.Program(
        "jit_step",
        {
            "forward": operation("student", "unet"),
            "backward": operation("student", "unet", backward=True),
            "bank": operation("student", "bank"),
            "soft": operation("loss_soft", "mean"),
            "thing": operation("optimizer", "update"),
            "copy": operation(),
        },
    )
    times = {"forward": 20.0, "backward": 40.0, "bank": 5.0, "soft": 0.5, "thing": 2.0, "copy": 10.0}
    text = profiling.table(profiling.Profile(program, 100.0, times, 4.5), heaviest=2)
    assert text.splitlines()[3:10] == [
        "      65.0   65.0      25.0      40.0  student",
        "      60.0   60.0      20.0      40.0    unet",
        "       5.0    5.0       5.0       0.0    bank",
        "       2.0    2.0       2.0       0.0  optimizer/update",
        "      18.0   18.0      18.0       0.0  (nothing runs)",
        "      10.0   10.0      10.0       0.0  (no scope)",
        "       4.5    4.5       4.5       0.0  (not of this step)",
    ]
    assert "loss_soft" not in text  # below 1 % of the step
    assert text.splitlines()[-2:] == [
        "      40.0   40.0  backward  f32[4,8]  student/unet, backward",
        "      20.0   20.0  forward  f32[4,8]  student/unet",
    ]


def test_a_training_writes_a_profile_that_is_read_back(small_config, tmp_path, capsys):
    config = small_config("mean_teacher")
    config.data.validation_region = "none"
    config.train.steps = 4
    config.profile.update({"start_step": 2, "num_steps": 2})
    train(config, tmp_path)
    profile = profiling.read(tmp_path / "profile")
    scopes = {operation.path[0] for operation in profile.program.operations.values() if operation.path}
    assert {"crops", "augment", "student", "student_teacher", "loss_supervised", "loss_consistency"} <= scopes
    assert {"optimizer", "update_teacher"} <= scopes
    key = "speed/seconds_per_step"
    measured = [record[key] for record in read_records(tmp_path / "metrics.jsonl") if key in record]
    assert 0 < profile.step_ms <= 1e3 * max(measured)  # the first one has the compilation in it
    assert set(profile.operation_ms) <= set(profile.program.operations)
    assert 0 < sum(profile.operation_ms.values()) <= profile.step_ms
    capsys.readouterr()
    assert profiling.main([str(tmp_path / "profile")]) == 0
    assert "student" in capsys.readouterr().out
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(trace)).planes
    ran = Counter(name for plane in planes for *_, name in profiling._operations(plane, profile.program, {}))
    assert min(ran[name] for name in profile.operation_ms) == 2  # not the step before, which was still running


def test_kernels_of_a_cuda_graph_are_told_by_their_names():
    program = hlo.Program("jit_step", {"loop_add_fusion.2": None, "cudnn-conv.1": None})
    kernels = {"loop_add_fusion_2": "loop_add_fusion.2", "cudnn_conv_1": "cudnn-conv.1"}

    def event(start, name, op, module="jit_step"):
        return SimpleNamespace(start_ns=start, duration_ns=2, name=name, stats=[("hlo_op", op), ("hlo_module", module)])

    events = [
        event(0, "sm90_conv", "cudnn-conv.1"),
        event(3, "loop_add_fusion_2", "command_buffer_7"),
        event(6, "sm90_gemm", "command_buffer_7"),
        event(9, "loop_add_fusion_2", "loop_add_fusion.2", "jit_other"),
    ]
    plane = SimpleNamespace(name="/device:GPU:0", lines=[SimpleNamespace(events=events)])
    names = [name for _, _, name in profiling._operations(plane, program, kernels)]
    assert names == ["cudnn-conv.1", "loop_add_fusion.2", profiling.LIBRARY, ""]


def test_operations_of_a_tpu_are_told_by_their_text():
    program = hlo.Program("jit_step", {"fusion.1": None, "while.2": None})
    texts = ("%fusion.1 = f32[8]{0:T(128)} fusion(...)", "while.2", "%fusion.9 = f32[8] fusion(...)")
    events = [SimpleNamespace(start_ns=i, duration_ns=1, name=text, stats=[]) for i, text in enumerate(texts)]
    lines = [SimpleNamespace(name="XLA Ops", events=events), SimpleNamespace(name="Steps", events=events)]
    plane = SimpleNamespace(name="/device:TPU:0", lines=lines)
    assert [name for _, _, name in profiling._operations(plane, program, {})] == ["fusion.1", "while.2", ""]


@pytest.mark.parametrize("name", schema.method_names())
def test_every_loss_term_and_network_has_a_scope(name):
    config = dualrel_jax.get_config(f"{name}:phantom,1/32")
    config.model.update({"stem": 1, "width": 2, "depth": 2, "dtype": "float32"})
    config.train.update({"crop_px": 16, "batch_labelled": 2, "batch_unlabelled": 2})
    config = config_lib.resolve(config)
    method = create_method(config)
    crops = jax.ShapeDtypeStruct((2, 16, 16, 1), np.float32)
    batch = Batch(
        crops,
        jax.ShapeDtypeStruct((2, 16, 16), np.int32),
        crops,
        jax.ShapeDtypeStruct((method.strong_views, *crops.shape), np.float32),
    )
    variables = jax.eval_shape(method.init, jax.random.key(0), crops)
    lowered = jax.jit(method.loss).lower(variables, variables, batch, jax.random.key(0), np.int32(0))
    diagnostics = jax.eval_shape(method.loss, variables, variables, batch, jax.random.key(0), np.int32(0))[1][0]
    text = lowered.as_text(debug_info=True)
    terms = [key for key in diagnostics if key.startswith("loss_")] or ["loss_supervised"]
    for scope in [*method.networks, *terms]:
        assert f"/{scope}/" in text, scope


def test_a_profile_outside_the_training_is_refused_and_one_left_behind_is_skipped(small_config, tmp_path):
    config = small_config()
    step = object()
    config.profile.update({"start_step": 5, "num_steps": 3})
    with pytest.raises(InputError, match=r"steps 5 to 7; expected steps from 1 to 6"):
        profiling.profiled(step, config, tmp_path, 0)
    assert profiling.profiled(step, config, tmp_path, 5) is step
    config.profile.num_steps = 0
    assert profiling.profiled(step, config, tmp_path, 0) is step


def test_a_folder_without_a_profile_is_named(tmp_path, capsys):
    assert profiling.main([str(tmp_path)]) == 2
    assert f"{tmp_path} holds no profile" in capsys.readouterr().err
