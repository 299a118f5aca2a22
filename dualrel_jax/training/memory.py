"""What a training step needs of each device: the time to compile it, and the memory to run it."""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from dualrel_jax.errors import InputError

_SIZES = ("crop_px", "batch_unlabelled", "batch_labelled")  # fields of config.train that the memory grows with
_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
COMPILING = "Compiling the training step: about a minute on two CPU cores. Later starts reuse it."


class CompiledStep:
    """A training step, compiled at its first call, where it prints that it compiles and then the memory it needs.

    Attributes:
      compiled: the `jax.stages.Compiled` of the step; None before the first call.
    """

    def __init__(self, step_fn: functools.partial):
        self._jitted, self._keywords = step_fn.func, step_fn.keywords
        self.compiled: jax.stages.Compiled | None = None

    def __call__(self, *args: Any) -> Any:
        if self.compiled is None:
            print(COMPILING, flush=True)
            self.compiled = self._jitted.lower(*args, **self._keywords).compile()
            print(f"This training needs about {needed_mib(self.compiled):.0f} MiB on each device.", flush=True)
        return self.compiled(*args, **self._keywords)


def needed_mib(compiled: jax.stages.Compiled) -> float:
    """Memory of a program at its peak on one device, MiB: what it is given, what it returns and what lies between."""
    sizes = compiled.memory_analysis()
    kept = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return (kept + sizes.temp_size_in_bytes + sizes.generated_code_size_in_bytes) / 2**20


def machine_bytes() -> int | None:
    """Memory of this machine; None where the system does not say (Windows)."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int | None:
    """Memory this process may take: the machine's, its container's, that of Slurm, or what `ulimit -v` leaves of it."""
    limits = [machine_bytes(), *_limits_of_groups()]
    with contextlib.suppress(ImportError, OSError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limits.append(max(limit - pages * resource.getpagesize(), 0))
    return min((limit for limit in limits if limit is not None), default=None)


def _limits_of_groups() -> Iterator[int]:
    """Memory limits, bytes, of the control groups (version 1 or 2) of this process and of those around them.

    Slurm and containers limit a group somewhere on the way from the process to the root.
    """
    groups = {"": Path("/")}
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split(":", 2) for line in _OWN_GROUPS.read_text().splitlines())
        groups |= {kind: Path(path) for _, kinds, path in lines for kind in kinds.split(",")}
    for kind, name in {"": "memory.max", "memory": "memory.limit_in_bytes"}.items():
        group = groups.get(kind, Path("/"))
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):
                yield int((_GROUPS / kind / folder.relative_to("/") / name).read_text())


@contextlib.contextmanager
def explain_out_of_memory(config: ConfigDict) -> Iterator[None]:
    """Turns the error of a device without memory left into an InputError that names the fields to lower."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        fields = ", ".join(f"--config.train.{key} ({config.train[key]})" for key in _SIZES)
        raise InputError(
            f"This training does not fit into the memory of its devices; lower {fields}, take a smaller --config.size "
            f"than {config.size}, or use more devices."
        ) from error
