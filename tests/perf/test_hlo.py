"""What the text of a compiled program says: checked on programs whose answer is known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from dualrel_jax.training import hlo
from dualrel_jax.utils import sharding

TEXT = """HloModule jit_step, is_scheduled=true

%fused_computation.1 (param_0: f32[8,8]) -> f32[8,8] {
  %param_0 = f32[8,8]{1,0} parameter(0)
  ROOT %neg.1 = f32[8,8]{1,0:T(8,128)} negate(%param_0), metadata={op_name="jit(step)/jvp(student)/UNet/neg"}
}

ENTRY %main.9 (x.1: f32[8,8]) -> f32[8,8] {
  %x.1 = f32[8,8]{1,0} parameter(0), metadata={op_name="x"}
  %fusion = f32[8,8]{1,0:T(8,128)} fusion(%x.1), kind=kLoop, calls=%fused_computation.1
  %copy.1 = f32[8,8]{0,1} copy(%fusion)
  %all-reduce-start = (f32[8,8]{0,1}, /*index=1*/f32[8,8]{1,0}) all-reduce-start(%copy.1, %x.1), to_apply=%add, \
metadata={op_name="jit(step)/transpose(jvp(student))/UNet/dot"}
  %all-reduce-done = (f32[8,8]{0,1}, f32[8,8]{1,0}) all-reduce-done(%all-reduce-start)
  ROOT %out = f32[8,8]{0,1} get-tuple-element(%all-reduce-done), index=0
}
"""


def test_operations_have_the_path_of_what_is_fused_in_them_or_of_their_first_reader():
    program = hlo.parse(TEXT)
    found = {name: (operation.path, operation.backward) for name, operation in program.operations.items()}
    assert program.name == "jit_step"
    assert found["fusion"] == (("student", "UNet"), False)
    assert found["copy.1"] == (("student", "UNet"), True)
    assert found["out"] == ((), False)
    assert program.operations["all-reduce-start"].opcode == "all-reduce-start"


def test_an_exchange_is_counted_once_with_what_a_device_puts_in():
    assert hlo.communication(TEXT) == [("all-reduce", 2 * 8 * 8 * 4, ("student", "UNet"))]


@pytest.mark.parametrize(
    "name, path, backward",
    [
        ("jit(step)/augment/vmap(jit(_uniform))/while/body/closed_call/add", ("augment",), False),
        ("jit(step)/jvp(loss_soft)/reduce_sum;jit(step)/optimizer/mul", ("loss_soft",), False),
        ("jit(step)/(transpose(jvp(student))/UNet/dot:jvp(loss)/reduce_sum)", ("student", "UNet"), True),
        ("reduce_sum", (), False),
        ("", (), False),
    ],
)
def test_paths_keep_scopes_and_drop_what_jax_adds(name, path, backward):
    assert hlo.parse_path(name) == (path, backward)


def test_sizes_count_every_array_of_a_tuple():
    assert hlo.size_bytes("(f32[2,2]{1,0}, /*index=1*/bf16[4]{0}, s32[], pred[3])") == 16 + 8 + 4 + 3


def test_a_real_program_keeps_its_scopes_and_exchanges_its_gradient_alone():
    mesh = sharding.create_mesh(4)

    def loss(w, x):
        with jax.named_scope("student"):
            y = jnp.tanh(x @ w)
        with jax.named_scope("loss_soft"):
            return jnp.mean(y * y)

    def step(w, x):
        return w - jax.grad(loss)(w, sharding.shard_batch(x, mesh))

    shapes = jax.ShapeDtypeStruct((8, 3), jnp.float32), jax.ShapeDtypeStruct((16, 8), jnp.float32)
    text = jax.jit(step, out_shardings=sharding.replicated(mesh)).lower(*shapes).compile().as_text()
    assert [(kind, size) for kind, size, _ in hlo.communication(text)] == [("all-reduce", 8 * 3 * 4)]
    assert {("student",), ("loss_soft",)} <= {operation.path for operation in hlo.parse(text).operations.values()}

    def gather(x):
        return jax.lax.with_sharding_constraint(x * 2, jax.NamedSharding(mesh, PartitionSpec()))

    x = jax.ShapeDtypeStruct((16, 8), jnp.float32, sharding=sharding.split(mesh))
    text = jax.jit(gather).lower(x).compile().as_text()
    assert [(kind, size) for kind, size, _ in hlo.communication(text)] == [("all-gather", 4 * 8 * 4)]
