"""Methods x labelled partitions x seeds, each trained in a process of its own, to tables and plots.

  python -m dualrel_jax.benchmark --config configs/benchmark.py:phantom --workdir runs/bench
  python -m dualrel_jax.benchmark --config configs/benchmark.py:lucchi,to=vnc --workdir runs/bench_lucchi
  python -m dualrel_jax.benchmark --config configs/domains.py --workdir runs/domains
  python -m dualrel_jax.benchmark --workdir runs/bench        makes its tables again, from results.json

Flags:
  --config FILE.py:DATA[,to=A+B][,unlabelled=target]
                      what is compared: configs/benchmark.py or configs/ablation.py, the training data set, and others
                      to score on, whose slices may join the unlabelled ones; or configs/domains.py, several domains.
  --config.KEY=VALUE  sets a field. For all trials: --config.base.train.steps=1000, --config.base.size=small; for one
                      row: --config.rows.cps.method.consistency_weight=1. What to run: --config.only=supervised,dualrel,
                      --config.labelled=1/32,all, --config.seeds=1, --config.processes=2.
  --workdir DIR       holds table.md, table.csv, table.tex, curve.png, weights.png, results.json and a run folder per
                      trial. The same command continues a stopped benchmark: finished trials are not run again.
"""

if __name__ == "__main__":  # from the first moment; the imports below take a second
    from dualrel_jax.utils.interrupt import end_at_once

    end_at_once()

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from ml_collections import ConfigDict

from dualrel_jax.benchmark import budget
from dualrel_jax.benchmark.outputs import outputs_of, remake_outputs, write_outputs
from dualrel_jax.benchmark.plan import collect, on_disk, plan, plan_measurements
from dualrel_jax.benchmark.progress import BenchmarkProgress
from dualrel_jax.benchmark.scheduler import end_with_parent, make_slots, run_all
from dualrel_jax.errors import InputError
from dualrel_jax.main import parse
from dualrel_jax.utils import interrupt, lock, streams

# This process never imports JAX: it would take memory of the GPU, and start seconds later.

COMMAND = [sys.executable, "-m", "dualrel_jax.benchmark", "--cell"]  # and the folder of a trial
MEASURE = [*COMMAND[:-1], "--measure"]  # the same
PATIENCE_S = 10.0  # after a signal, to the end of the tables that are being written


def main(argv: list[str] | None = None) -> int:
    """Runs the command; -> its exit code: 0, 2 after a sentence or a failed trial, 130 or 143 if it was stopped."""
    streams.make_safe()
    return interrupt.run_command(lambda: _main(sys.argv[1:] if argv is None else argv), as_program=argv is None)


def _main(argv: list[str]) -> int:
    if not argv or {"--help", "-h", "-help"} & set(argv):
        print(__doc__)
        return 0
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--config", "--workdir", "--cell", "--measure"):
        parser.add_argument(flag, default="")
    flags, rest = parser.parse_known_args(argv)
    try:
        if flags.cell or flags.measure:
            end_with_parent()
            os.environ.setdefault("JAX_TRACEBACK_FILTERING", "off")  # else the last line of a failure is a remark on it
            from dualrel_jax.benchmark.trial import measure_trial, run_trial

            run_trial(Path(flags.cell)) if flags.cell else measure_trial(Path(flags.measure))
            return 0
        if flags.config:
            parsed, config = parse(argv)
            interrupt.describe("Stopped; the same command continues.")
            with lock.folder_writer(parsed.workdir):
                return run(config, Path(parsed.workdir))
        if rest or not flags.workdir:
            raise InputError(
                "--config and --workdir are needed to run a benchmark, --workdir alone to make its tables."
            )
        if not (Path(flags.workdir) / "results.json").is_file():
            raise InputError(
                f"{flags.workdir} holds no benchmark (results.json is missing); run one there with --config first."
            )
        with lock.folder_writer(flags.workdir):
            remake_outputs(Path(flags.workdir))
    except InputError as error:
        print(f"dualrel: {error}", file=sys.stderr)
        return 2
    return 0


def run(config: ConfigDict, workdir: Path) -> int:
    """Runs every trial that is not finished and writes the outputs after each; -> exit code."""
    workdir.mkdir(parents=True, exist_ok=True)
    if failed := measure(config, workdir):
        return _report(failed, "measurements")
    trials = plan(config, workdir)
    for trial in (*trials, *on_disk(config, workdir)):
        trial.check()
    waiting = {trial.folder / "log.txt": trial for trial in trials if not trial.is_finished()}
    plain = json.loads(config.to_json_best_effort())
    write_outputs(plain, collect(config, workdir), workdir)
    slots = make_slots(config.processes, len(waiting)) if waiting else []
    print(f"{len(trials)} trials, {len(waiting)} of them to run, {len(slots)} at a time.", flush=True)
    progress, failed = BenchmarkProgress(trials, list(waiting.values()), len(slots)), []
    for trial in waiting.values():
        trial.write()
    commands = {log: [*COMMAND, str(trial.folder)] for log, trial in waiting.items()}
    interrupt.describe("Stopped; the same command continues.", patience_s=PATIENCE_S)
    with contextlib.closing(run_all(commands, slots)) as ended:
        for log, code, seconds, running in ended:
            trial = waiting[log]
            if code == 0:
                write_outputs(plain, collect(config, workdir), workdir)
                line = progress.finished(trial, seconds, {waiting[key]: so_far for key, so_far in running.items()})
            else:
                failed.append(f"{trial}: exit code {code}, {trial.last_line()} ({log})")
                line = progress.failed(trial)
            print(line, flush=True)
    if failed:
        return _report(failed, f"of {len(trials)} trials")
    print(f"Done: {', '.join(str(path) for path in outputs_of(plain, workdir))}", flush=True)
    return 0


def measure(config: ConfigDict, workdir: Path) -> list[str]:
    """Measures what a step of each row costs where a budget needs it and it is not known; -> what failed."""
    trials = plan_measurements(config, workdir)
    if not trials:
        return []
    measured, failed = budget.step_seconds(config, workdir), []
    logs = {trial.folder / "log.txt": row for row, trial in trials.items()}
    for trial in trials.values():
        trial.write()
    slots = make_slots(config.processes, len(logs))
    print(f"Measuring the CPU seconds of a step of {len(logs)} rows, {len(slots)} at a time.", flush=True)
    commands = {log: [*MEASURE, str(log.parent)] for log in logs}
    with contextlib.closing(run_all(commands, slots)) as ended:
        for log, code, *_ in ended:
            row = logs[log]
            if code:
                failed.append(f"{row}: exit code {code}, {trials[row].last_line()} ({log})")
                continue
            measured[row] = json.loads((log.parent / "cost.json").read_text())
            budget.save(workdir, measured)
            print(f"{row}: {measured[row]:.3f} s of CPU per step", flush=True)
    return failed


def _report(failed: list[str], among: str) -> int:
    print(f"{len(failed)} {among} failed; the same command tries them again:", file=sys.stderr)
    print(*(f"  {line}" for line in failed), sep="\n", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
