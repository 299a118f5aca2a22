"""Runs tasks on many machines by Dask: processes of this machine, a scheduler that runs, or Slurm jobs."""

import contextlib
import functools
import importlib.util
import itertools
import logging
import os
import queue
import re
import shutil
import signal
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dualrel_jax.errors import InputError
from dualrel_jax.inference.slurm_settings import read_slurm_settings
from dualrel_jax.utils import interrupt
from dualrel_jax.utils.tasks import Result, Task, Tasks, in_this_process

TRIES = 3  # of a task
AHEAD = 1000  # tasks that the scheduler holds; the others are not made yet
SHOWN = 5  # failed tasks that are named
EXPECTED = "expected local:N, tcp://HOST:PORT, tls://HOST:PORT or a Slurm file such as slurm.yaml"
_POLL_S = 0.2
_CONNECT_S = 20
_SILENT = logging.CRITICAL + 1
_CLOSE_S = 5  # after which workers end because this process does
_PREPARE = "from dualrel_jax.inference.cluster import prepare_worker; prepare_worker()"


@dataclass(frozen=True)
class _Shared:
    """A machine that several workers share; as a worker sees it, before it knows which of them it is."""

    workers: int
    gpus: tuple[str, ...]  # as CUDA_VISIBLE_DEVICES names them


@contextlib.contextmanager
def open_cluster(text: str) -> Iterator[Tasks]:
    """The tasks of a cluster; in this process, without Dask, for an empty text.

    Args:
        text: `local:N`, N processes of this machine; `tcp://host:port` or `tls://host:port`, a scheduler that runs; or
            the path of a YAML file for Slurm.

    Raises:
        InputError: another text, Dask is not installed, no scheduler there, or Slurm refuses the jobs.
    """
    if not text:
        yield in_this_process
        return
    opener, argument = _parse(text)
    try:
        import dask
        import distributed
    except ImportError as error:
        raise InputError(
            f"--cluster needs Dask, which is not installed ({error}); pip install 'dualrel-jax[cluster]'."
        ) from error
    _silence_dask()
    settings = {
        "distributed.scheduler.allowed-failures": TRIES - 1,
        "distributed.comm.timeouts.connect": f"{_CONNECT_S}s",
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.admin.large-graph-warning-threshold": "1GB",
    }
    with dask.config.set(settings), warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")  # such as a dashboard's port that is taken
        client, machine = opener(argument, stack, distributed)
        _print_dashboard(client)
        yield _Cluster(client, text, machine)


def _silence_dask() -> None:
    """Dask's own reports; errors of tasks are named at the end."""
    for name in ("distributed", "tornado", "asyncio", *logging.root.manager.loggerDict):
        if name.startswith(("distributed", "tornado", "asyncio")):
            logging.getLogger(name).setLevel(_SILENT)


def check_cluster(text: str) -> None:
    """InputError for a text that `open_cluster` does not understand; nothing is started."""
    if text:
        _parse(text)


def _parse(text: str) -> tuple[Callable, Any]:
    """-> the function that opens the cluster, and its argument."""
    if match := re.fullmatch(r"local:(\d+)", text):
        if int(match[1]) < 1:
            raise InputError(f"--cluster is {text}; expected at least one process, such as local:4.")
        return _open_local, int(match[1])
    if re.fullmatch(r"(tcp|tls)://[^/]+:\d+", text):
        return _connect, text
    if text.endswith((".yaml", ".yml")):
        return _open_slurm, read_slurm_settings(Path(text).expanduser())
    raise InputError(f"--cluster is {text!r}; {EXPECTED}.")


def _open_local(count: int, stack: contextlib.ExitStack, distributed) -> tuple[Any, _Shared]:
    """Scheduler, workers and dashboard listen on 127.0.0.1, and take only those who have a key made for them."""
    gpus = _gpus()
    cluster = distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=0,  # Dask stops workers near a limit for good; the system's limits hold
        host="127.0.0.1",
        dashboard_address="127.0.0.1:8787" if _has_dashboard() else None,
        security=_temporary_keys(distributed),
        silence_logs=_SILENT,
        preload=[_PREPARE],
    )
    stack.callback(_close, cluster)
    client = distributed.Client(cluster)
    stack.callback(_close, client)
    devices = f", on {min(count, len(gpus))} GPUs" if gpus else ""
    print(f"{count} worker processes on this machine{devices}")
    return client, _Shared(count, gpus)


def _gpus() -> tuple[str, ...]:
    """The GPUs that JAX may use, as CUDA_VISIBLE_DEVICES names them; InputError where one process holds all devices."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # this process leaves the memory to the workers
    import jax

    if (backend := jax.default_backend()) not in ("cpu", "gpu"):
        raise InputError(
            f"--cluster=local starts processes, but one process holds every {backend.upper()} of a machine; leave it "
            "out: one process uses all of them."
        )
    if backend == "cpu":
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple(named.split(",") if named else map(str, range(jax.local_device_count())))


def _connect(address: str, stack: contextlib.ExitStack, distributed) -> tuple[Any, None]:
    try:
        client = distributed.Client(address, timeout=_CONNECT_S)
        stack.callback(_close, client)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--cluster={address}: no scheduler answers ({reason}); start one with `dask scheduler`, or check the "
            "address."
        ) from error
    count = len(client.scheduler_info(n_workers=-1)["workers"])
    print(f"{count} workers at {address}{'' if count else '; tasks wait for the first'}")
    return client, None


def _open_slurm(settings: dict, stack: contextlib.ExitStack, distributed) -> tuple[Any, None]:
    """One worker a job, with one thread and all that the job was given; jobs that end are replaced."""
    if not shutil.which("sbatch"):
        raise InputError("--cluster names Slurm jobs, but there is no sbatch here; run it where sbatch works.")
    try:
        from dask_jobqueue.slurm import SLURMCluster, SLURMJob
    except ImportError as error:
        raise InputError(f"--cluster needs dask-jobqueue ({error}); pip install 'dualrel-jax[cluster]'.") from error
    settings = dict(settings)
    jobs = settings.pop("jobs")
    settings.setdefault("shared_temp_directory", os.getcwd())  # keys of this command, which its jobs read
    refusals = queue.SimpleQueue()  # of each job, or None where it was taken

    class Job(SLURMJob):
        async def _submit_job(self, script_filename: str) -> str:
            try:
                answer = await super()._submit_job(script_filename)
            except Exception as error:
                refusals.put(error)
                raise
            refusals.put(None)
            return answer

    try:
        cluster = SLURMCluster(
            job_cls=Job,
            processes=1,
            worker_extra_args=["--nthreads", "1", "--memory-limit", "0"],
            scheduler_options={"dashboard_address": "127.0.0.1:8787"},
            security=_temporary_keys(distributed),
            silence_logs=_SILENT,
            **settings,
        )
        stack.callback(_close, cluster)
        cluster.scale(jobs=jobs)
        if refusal := _next(refusals):
            raise refusal
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).partition("stderr:")[2].split()) or " ".join(str(error).split())
        raise InputError(f"Slurm does not take the jobs ({reason[:300]}); correct the file of --cluster.") from error
    cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs, interval="30s")
    client = distributed.Client(cluster)
    stack.callback(_close, client)
    print(f"{jobs} Slurm jobs are asked for; tasks start with the first of them")
    return client, None


def _close(opened) -> None:
    """Closes a client or a cluster; what stopped the command is the error to report."""
    with contextlib.suppress(Exception):
        opened.close(timeout=_CLOSE_S)


def _temporary_keys(distributed) -> Any:
    """A key pair that lives as long as this command; None without the package that makes it."""
    return distributed.Security.temporary() if importlib.util.find_spec("cryptography") else None


def _has_dashboard() -> bool:
    return importlib.util.find_spec("bokeh") is not None


def _print_dashboard(client) -> None:
    if _has_dashboard():
        print(f"Dashboard: {client.dashboard_link}")


class _Cluster:
    """`Tasks` on the workers of a client.

    Args:
        text: as the user named the cluster.
        shared: the machine that all workers share; None: each has its own.
    """

    def __init__(self, client, text: str, shared: _Shared | None):
        self._client, self._text, self._shared = client, text, shared

    def __call__(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        """In the order in which they end.

        A task that fails is tried three times, and one whose worker dies runs on another.

        Raises:
            InputError: at the end, the tasks that failed; or the scheduler is gone.
        """
        ended, running, failed = queue.SimpleQueue(), {}, []
        coming, name, numbers = iter(tasks), uuid.uuid4().hex[:8], itertools.count()
        try:
            while True:
                for task in itertools.islice(coming, AHEAD - len(running)):
                    key = f"task-{name}-{next(numbers)}"
                    future = self._client.submit(
                        _run, function, task, self._shared, key=key, pure=False, retries=TRIES - 1
                    )
                    running[key] = future, task
                    future.add_done_callback(ended.put)
                if not running:
                    break
                for key, outcome in self._outcomes(ended):
                    _, task = running.pop(key)
                    if isinstance(outcome, Exception):
                        failed.append((task, outcome))
                        tqdm.write(f"{task} failed {TRIES} times: {_sentence(outcome)}")
                    else:
                        yield task, outcome
        finally:
            with contextlib.suppress(Exception):
                self._client.cancel([future for future, _ in running.values()], force=True)
        if failed:
            raise InputError(_describe_failures(failed))

    def _outcomes(self, ended: queue.SimpleQueue) -> Iterator[tuple[str, Any]]:
        """(key, result or exception) of the futures that have ended, at least one."""
        futures = [_next(ended)]
        with contextlib.suppress(queue.Empty):
            while True:
                futures.append(ended.get_nowait())
        if any(future.status not in ("finished", "error") for future in futures):
            raise InputError(f"--cluster={self._text}: the scheduler is gone; the same command continues on another.")
        results = self._client.gather([future for future in futures if future.status == "finished"])
        results = iter(results)
        for future in futures:
            yield future.key, next(results) if future.status == "finished" else future.exception()


def _next(ended: queue.SimpleQueue) -> Any:
    """The next entry; a place where the command stops after a signal."""
    while True:
        interrupt.check()
        with contextlib.suppress(queue.Empty):
            return ended.get(timeout=_POLL_S)


def _describe_failures(failed: list[tuple[Any, Exception]]) -> str:
    named = "; ".join(f"{task}: {_sentence(error)}" for task, error in failed[:SHOWN])
    more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    tasks = "1 task" if len(failed) == 1 else f"{len(failed)} tasks"
    return f"{tasks} failed {TRIES} times, all others are done ({named}{more}); the same command tries them again."


def _sentence(error: Exception) -> str:
    """What went wrong, on one line."""
    if isinstance(error, InputError):
        return str(error).rstrip(".")
    if type(error).__name__ == "KilledWorker":
        return "each worker that ran it was killed, which a lack of memory may do"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# ---------------------------------------------------------------------------------------------------------------------
# On the workers
# ---------------------------------------------------------------------------------------------------------------------


def prepare_worker() -> None:
    """A terminal sends Ctrl-C to all processes of a command, of which one then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _silence_dask()


def _run(function: Callable[[Task], Result], task: Task, shared: _Shared | None) -> Result:
    """Calls `function` on a worker, without what it prints."""
    if shared:
        _take_part(shared)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        return function(task)


@functools.cache
def _take_part(shared: _Shared) -> None:
    """Limits this process to its part of the cores and to one GPU, before JAX starts."""
    from distributed import get_worker

    index = int(get_worker().name)
    if shared.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = shared.gpus[index % len(shared.gpus)]
    if hasattr(os, "sched_setaffinity"):  # threads that this one starts inherit it: those of XLA and tensorstore
        cores = sorted(os.sched_getaffinity(0))
        first, end = (len(cores) * i // shared.workers for i in (index, index + 1))
        os.sched_setaffinity(0, cores[first:end] or [cores[index % len(cores)]])
