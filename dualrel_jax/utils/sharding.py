"""Devices and hosts: one mesh axis, `data`, over which batches are split and everything else is copied."""

import collections
import os
import textwrap
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from dualrel_jax.errors import InputError
from dualrel_jax.utils.cache import cache_folder


def initialize(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
    """Joins the hosts of a run; nothing to do on one host. `auto` lets JAX find its cluster (TPU pod, Slurm)."""
    if not coordinator:
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address = None if coordinator == "auto" else coordinator
    jax.distributed.initialize(address, num_processes, process_id)


def cache_compilations() -> None:
    """Keeps compiled programs between processes, in the user's cache folder; JAX_COMPILATION_CACHE_DIR moves it."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))


def check_platform() -> None:
    """InputError if JAX has no device of the kind that JAX_PLATFORMS names."""
    if not (named := os.environ.get("JAX_PLATFORMS")):
        return
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = textwrap.shorten(str(error), 200) or "it is not installed"
        raise InputError(
            f"JAX_PLATFORMS is {named}, but JAX has no such device here ({reason}); unset it to use what there is, or "
            "install JAX for that device."
        ) from error


def create_mesh(num_devices: int = 0) -> Mesh:
    """A mesh over the first `num_devices` devices of all hosts, host by host; 0: all of them."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if num_devices > len(devices):
        raise InputError(
            f"config.train.devices is {num_devices}, but this machine has {len(devices)}; lower it, or use 0 for all."
        )
    devices = devices[: num_devices or None]
    # Not jax.make_mesh: on a TPU its order is that of a ring, in which a host's share of a batch is not in one piece.
    # Auto: the default, Explicit, makes the prototype einsums ambiguous.
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def training_mesh(train: ConfigDict, unlabelled_too: bool) -> Mesh:
    """A mesh over the devices of a training, over which its batches can be split evenly.

    With `train.devices` = 0 on one host: as many as divide the batches.

    Raises:
        InputError: there are fewer devices, a batch cannot be split over them, or a host has none.
    """
    number = train.devices
    if not number and jax.process_count() == 1:
        batches = [train.batch_labelled, train.batch_unlabelled][: 1 + unlabelled_too]
        number = max(n for n in range(1, jax.device_count() + 1) if not any(batch % n for batch in batches))
    mesh = create_mesh(number)
    check_batches(train, unlabelled_too, mesh)
    return mesh


def idle_devices(train: ConfigDict, mesh: Mesh) -> str:
    """A sentence, where `train.devices` = 0 leaves some devices without work; else empty."""
    if train.devices or mesh.size == jax.device_count():
        return ""
    return (
        f"{mesh.size} of {jax.device_count()} devices train: more cannot share the batches evenly. Batches that are "
        "multiples of their number use all (train.batch_labelled, train.batch_unlabelled)."
    )


def available_mesh(num_devices: int = 0) -> Mesh:
    """`create_mesh` for the use of a trained model: all devices of a machine that has fewer than its training had."""
    return create_mesh(min(num_devices, len(jax.devices())))


def check_batches(train: ConfigDict, unlabelled_too: bool, mesh: Mesh) -> None:
    """InputError if a batch of `config.train` cannot be split evenly over the devices, or this host has none."""
    if jax.process_index() not in {device.process_index for device in mesh.devices.flat}:
        raise InputError(
            f"config.train.devices is {train.devices}, which leaves this host, number {jax.process_index()}, without "
            "work; use 0 for all devices, or start fewer hosts."
        )
    of_hosts = collections.Counter(device.process_index for device in mesh.devices.flat)
    if len(set(of_hosts.values())) > 1:
        raise InputError(
            f"config.train.devices is {train.devices}, which takes {sorted(of_hosts.values())} devices of the hosts; "
            "expected equally many of each: use 0 for all devices."
        )
    for key in ("batch_labelled", "batch_unlabelled")[: 1 + unlabelled_too]:
        if train[key] < 1 or train[key] % mesh.size:
            raise InputError(
                f"config.train.{key} is {train[key]}, which cannot be split evenly over {mesh.size} devices; use a "
                f"multiple of {mesh.size}, or fewer devices with --config.train.devices."
            )


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Sharding that splits the first axis over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Host arrays, equal on all hosts, to a whole copy on every device."""
    sharding = replicated(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x), np.shape(x)), tree)


def scatter(values: np.ndarray, mesh: Mesh) -> jax.Array:
    """A host array, equal on all hosts, to one split over its first axis: each device is sent its part alone."""
    return jax.make_array_from_callback(values.shape, split(mesh), values.__getitem__)


def shard_batch(tree: Any, mesh: Mesh) -> Any:
    """Inside jit: splits the first axis over the devices."""
    return jax.lax.with_sharding_constraint(tree, split(mesh))


def from_host_local(tree: Any, mesh: Mesh) -> Any:
    """Each host's share of a batch to one global array split over the first axis."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(split(mesh), x), tree)


def is_first_host() -> bool:
    """Only this host writes files that all share."""
    return jax.process_index() == 0
