"""The benchmark: what it compares, what it runs again, what it says of failures, and the whole program."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dualrel_jax import config as config_lib
from dualrel_jax.benchmark import __main__ as benchmark
from dualrel_jax.benchmark import scheduler, trial
from dualrel_jax.benchmark.plan import plan
from dualrel_jax.data.datasets import registry
from dualrel_jax.data.datasets.labels import fully_labelled
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference.choice import Choice
from dualrel_jax.main import parse

# Stands in for the training of a trial: writes what it would, from cell.json; the row "broken" in `fail` fails.
WORKER = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
trial = json.loads((folder / "cell.json").read_text())
print("working", flush=True)
if (folder.parents[2] / "fail").exists() and trial["row"] == "dualrel":
    sys.exit("dualrel: The volume is upside down.")
(folder / "config.json").write_text(json.dumps(trial["config"]))
hits = 50 + 10 * (trial["row"] == "dualrel") + 3 * trial["seed"]
records = [{"z": z, "tp": hits + z, "fp": 9, "fn": 50, "tn": 900, "jac": 0.5} for z in range(4)]
summary = {name: 0.5 for name in ("jac_pooled", "dsc_pooled", "jac_per_slice_mean", "dsc_per_slice_mean")}
summary |= {"slices": 4, "records": records}
target = {"parts": ["some"], "teacher": summary, "student": summary}
scores = {key: trial[key] for key in ("row", "labelled", "seed", "scoring")}
scores |= {"labelled_slices": 4, "steps": 2, "seconds_per_step": None, "wall_seconds": 0.2, "device": "none"}
scores |= {"pixel_nm": None, "consistency_weight": [[1, 2], [0, 1]]}
scores["targets"] = {name: target for name in trial["scoring"]["targets"]}
(folder / "scores.json").write_text(json.dumps(scores))
"""


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """A function (flags) -> (exit code, what was printed), where a trial takes no time."""
    monkeypatch.setattr(benchmark, "COMMAND", [sys.executable, "-c", WORKER])
    monkeypatch.setattr(benchmark, "make_slots", lambda number, limit: [scheduler.Slot({})] * 2)

    def call(*flags):
        argv = ["--config=configs/benchmark.py:phantom", f"--workdir={tmp_path}", "--config.only=supervised,dualrel"]
        code = benchmark.main([*argv, "--config.labelled=1/32", "--config.seeds=2", *flags])
        return code, capsys.readouterr()

    return call


def starts(folder):
    """Folder of a trial -> how often it was started."""
    logs = sorted(folder.glob("*/*/*/log.txt"))
    return {str(log.parent.relative_to(folder)): log.read_text().count("working") for log in logs}


# ---------------------------------------------------------------------------------------------------------------------
# What is compared
# ---------------------------------------------------------------------------------------------------------------------


def test_trials_share_every_field_but_the_method(tmp_path):
    flags = ["--config=configs/benchmark.py:lucchi,to=vnc,unlabelled=target", f"--workdir={tmp_path}"]
    without = [f"--config.rows.{row}.method.prototype_weight=0" for row in ("dualrel", "dualrel_paper")]
    _, config = parse([*flags, "--config.base.train.steps=7", *without])
    trials = plan(config, tmp_path)
    assert len({trial.folder for trial in trials}) == len(trials) == 3 * (10 * 4 + 1)
    assert {trial.config.method.name for trial in trials} >= {"supervised", "cps", "unimatch", "dualrel"}
    plain = [trial.config.to_dict() for trial in trials if (trial.labelled, trial.seed) == ("1/8", 1)]
    for one in plain:
        method = one.pop("method")
        assert method.get("prototype_weight", 0) == 0
    assert all(one == plain[0] for one in plain)
    assert (plain[0]["train"]["steps"], plain[0]["data"]["labelled"], plain[0]["seed"]) == (7, "1/8", 1)
    assert plain[0]["data"]["unlabelled_from"] == "vnc" and trials[0].scoring["targets"] == ["lucchi", "vnc"]


def test_the_rows_stay_in_order(tmp_path):
    _, config = parse(["--config=configs/benchmark.py:phantom,unlabeled=target,to=phantom_b", f"--workdir={tmp_path}"])
    assert [*config.rows][:2] == ["supervised", "mean_teacher"] and [*config.rows][-1] == "dualrel"
    assert [*json.loads(config.to_json_best_effort())["rows"]] == [*config.rows]
    assert config.base.data.unlabelled_from == "phantom_b"


def test_a_variant_of_the_ablation_changes_one_field():
    config = config_lib.get_config("ablation:phantom")
    for key, row in config.rows.items():
        reference = config.rows.dualrel.method
        changed = [field for field in reference if row.method[field] != reference[field]]
        assert key == "zoom_alone" or len(changed) == (key != "dualrel"), key  # all other terms without labels


def test_a_method_may_not_change_a_shared_field(monkeypatch):
    from dualrel_jax.configs import benchmark as config

    def unfair(name):
        changed = honest(name)
        changed.train.ema_fraction = 0.5
        return changed

    honest = config_lib.get_config
    monkeypatch.setattr(config_lib, "get_config", unfair)
    with pytest.raises(InputError, match="configs/dualrel.py changes config.train"):
        config.row("DualRel", "dualrel")


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--config.only=magic", "magic.*supervised"),
        ("--config.score_on=train", "score_on.*validation"),
        ("--config.seeds=0", "seeds is 0"),
        ("--config.first_seed=-1", "first_seed is -1"),
        ("--config.to=lucky", "lucky"),
        ("--config.to=phantom", "beside phantom"),
        ("--config.base.size=huge", "huge.*tiny"),
        ("--config.base.predict.foreground_fraction=0.05", "foreground_fraction is 0.05; expected 0"),
        ("--config.base.predict.points=a.csv", "points is a.csv; expected none"),
        ("--config.base.predict.planes=xyz", "planes is xyz; expected auto or xy"),
        ("--config.base.data.partition_file=a.json", "partition_file is a.json; expected none"),
        ("--config.rows.dualrel.method.magic=1", "magic"),
        ("--config=configs/dualrel.py:phantom", "not that of a benchmark"),
        ("--config=configs/benchmark.py:phantom,unlabelled=target", "needs a target"),
        ("--config=configs/benchmark.py:phantom,from=vnc", "phantom,from=vnc.*expected"),
    ],
)
def test_a_wrong_flag_is_explained(flag, said, bench, capsys):
    import re

    if flag.startswith("--config="):
        assert benchmark.main([flag, "--workdir=nowhere"]) == 2
        error = capsys.readouterr().err
    else:
        code, printed = bench(flag)
        error = printed.err
        assert code == 2
    assert re.search(said, error) and error.startswith("dualrel: ") and len(error.splitlines()) == 1


def test_help_is_fast_and_the_parent_never_imports_jax():
    begin = time.monotonic()
    code = "import sys; from dualrel_jax.benchmark.__main__ import main; main(['--help']); print('jax' in sys.modules)"
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert time.monotonic() - begin < 4
    assert "--workdir" in said and said.endswith("False\n")


# ---------------------------------------------------------------------------------------------------------------------
# What is run, and run again
# ---------------------------------------------------------------------------------------------------------------------


def test_finished_trials_are_not_run_again(bench, tmp_path):
    code, printed = bench()
    assert code == 0 and "JAC phantom 50.0%" in printed.out and "5 left" in printed.out
    once = starts(tmp_path)
    assert sorted(once) == sorted(
        f"{place}/seed_{seed}" for place in ("1_32/supervised", "1_32/dualrel", "all/supervised") for seed in (0, 1)
    )
    assert set(once.values()) == {1}
    assert bench()[0] == 0
    assert starts(tmp_path) == once
    code, _ = bench("--config.seeds=3", "--config.only=dualrel")
    assert code == 0 and starts(tmp_path) == once | {"1_32/dualrel/seed_2": 1}
    code, _ = bench("--config.first_seed=2", "--config.only=dualrel")
    assert code == 0 and starts(tmp_path) == once | {"1_32/dualrel/seed_2": 1, "1_32/dualrel/seed_3": 1}
    assert len(json.loads((tmp_path / "results.json").read_text())["cells"]) == 8  # others keep their place


def test_another_training_is_refused_and_another_scoring_is_done(bench, tmp_path):
    bench("--config.only=dualrel", "--config.seeds=1")
    code, printed = bench("--config.only=dualrel", "--config.base.train.ema_fraction=0.5")
    assert code == 2 and "config.train.ema_fraction: 0.03 there, 0.5 now" in printed.err
    code, printed = bench("--config.rows.dualrel.method.prototype_weight=0", "--config.only=supervised")
    assert code == 2 and "prototype_weight" in printed.err  # a table would mix two DualRels
    assert starts(tmp_path) == {"1_32/dualrel/seed_0": 1}
    for i, flag in enumerate(("--config.base.predict.threshold=0.4", "--config.to=phantom_b")):
        assert bench("--config.only=dualrel", "--config.seeds=1", "--config.bounds=False", flag)[0] == 0
        assert starts(tmp_path) == {"1_32/dualrel/seed_0": 2 + i}


def test_a_failing_trial_is_told_and_the_others_go_on(bench, tmp_path):
    (tmp_path / "fail").touch()
    code, printed = bench()
    assert code == 2
    assert printed.err.count("exit code 1, dualrel: The volume is upside down.") == 2
    assert "Supervised" in (tmp_path / "table.md").read_text()
    assert "DualRel (this package)" not in (tmp_path / "table.md").read_text()
    before = starts(tmp_path)
    (tmp_path / "fail").unlink()
    assert bench()[0] == 0
    assert starts(tmp_path) == {key: n + ("dualrel" in key) for key, n in before.items()}
    assert "DualRel (this package)" in (tmp_path / "table.md").read_text()


def test_tables_are_made_from_results_json_alone(bench, tmp_path, capsys):
    bench()
    names = ("table.md", "table.csv", "table.tex")
    before = {name: (tmp_path / name).read_text() for name in names}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert benchmark.main(["--workdir", str(elsewhere)]) == 2
    assert "results.json is missing" in capsys.readouterr().err
    (elsewhere / "results.json").write_text((tmp_path / "results.json").read_text())
    assert benchmark.main(["--workdir", str(elsewhere)]) == 0
    assert {name: (elsewhere / name).read_text() for name in names} == before
    assert {"curve.png", "curve.pdf", "weights.png"} <= {path.name for path in elsewhere.iterdir()}


# ---------------------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------------------


def test_slots_share_cores_and_devices(monkeypatch):
    monkeypatch.setattr(scheduler, "_devices", lambda: ("cpu", 1))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    cores = lambda *args: [sorted(slot.cores) for slot in scheduler.make_slots(*args)]  # noqa: E731
    assert cores(0, 99) == [[0], [1], [2], [3], [4]]
    assert cores(2, 99) == [[0, 2, 4], [1, 3]]
    assert cores(0, 1) == [[0, 1, 2, 3, 4]]
    assert len(cores(7, 99)) == 7
    monkeypatch.setattr(scheduler, "_devices", lambda: ("gpu", 2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in scheduler.make_slots(0, 99)] == ["4", "6"]
    four = [slot.environment for slot in scheduler.make_slots(4, 99)]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in four] == ["4", "6", "4", "6"]
    assert {slot["XLA_PYTHON_CLIENT_MEM_FRACTION"] for slot in four} == {"0.450"}
    monkeypatch.setattr(scheduler, "_devices", lambda: ("tpu", 4))
    assert len(scheduler.make_slots(0, 99)) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin processes")
def test_commands_run_in_their_slots_and_no_more_at_a_time(tmp_path):
    core = min(os.sched_getaffinity(0))
    code = "import os, time; print(os.environ['WHERE'], os.sched_getaffinity(0), flush=True); time.sleep(0.3)"
    commands = {tmp_path / f"{i}.txt": [sys.executable, "-c", code] for i in range(5)}
    slots = [scheduler.Slot({"WHERE": name}, frozenset([core])) for name in "ab"]
    ended = list(scheduler.run_all(commands, slots))
    assert {log for log, *_ in ended} == set(commands) and {code for _, code, *_ in ended} == {0}
    assert max(len(running) for *_, running in ended) <= 1
    for log in commands:
        where, pinned = log.read_text().split()
        assert where in "ab" and pinned == f"{{{core}}}"


def test_no_process_outlives_the_iterator_or_its_parent(tmp_path):
    def gone(pid):
        try:
            return open(f"/proc/{pid}/stat").read().split(")")[-1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    sleep = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    commands = {tmp_path / "quick": [sys.executable, "-c", "pass"], tmp_path / "slow": [sys.executable, "-c", sleep]}
    ended = scheduler.run_all(commands, [scheduler.Slot({})] * 2)
    next(ended)
    while not (tmp_path / "slow").read_text():
        time.sleep(0.05)
    ended.close()
    assert gone(int((tmp_path / "slow").read_text()))

    child = "from dualrel_jax.benchmark.scheduler import end_with_parent; end_with_parent();" + sleep
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone(pid)


# ---------------------------------------------------------------------------------------------------------------------
# A trial, and all of it
# ---------------------------------------------------------------------------------------------------------------------


def test_another_data_set_is_scored_whole_and_at_the_training_pixel_size(small_config, monkeypatch):
    array = np.random.default_rng(0).integers(0, 255, (20, 30, 30), dtype=np.uint8)
    image, label = (Volume.from_array(a, (50.0, 4.0, 4.0), "fly") for a in (array, (array > 200).astype(np.uint8)))
    raw = registry.Raw({"train": fully_labelled(image, label, "instances")}, "0:14", "16:20")
    monkeypatch.setitem(registry.DATASETS, "fly", lambda config: raw)
    data = small_config("supervised").data
    data.voxel_nm, data.test_voxel_nm, data.unlabelled_from = "30,8,8", "30,8,8", "fly"
    parts = trial.parts_to_score(registry.load_dataset(data), data, ["own", "fly"], "test")
    assert [part.name for part in parts["own"]] == ["own/test"]
    assert [z for part in parts["fly"] for z in part.labelled_zs] == [*range(14), *range(16, 20)]
    assert parts["fly"][0].image_at(0).shape == (15, 15)
    parts = trial.parts_to_score(registry.load_dataset(data), data, ["own"], "validation")
    assert [part.name for part in parts["own"]] == ["own/validation"]
    data.validation_region = "none"
    with pytest.raises(InputError, match="score_on"):
        trial.parts_to_score(registry.load_dataset(data), data, ["own"], "validation")


def test_a_trial_scores_each_data_set_as_predict_would_segment_it(small_config, monkeypatch):
    seen = []

    def score(predictor, variables, parts, threshold, max_slices, show):
        seen.append((parts[0].name, predictor, threshold))
        return SimpleNamespace(summary=dict, records=[], threshold=threshold), []

    monkeypatch.setattr(trial, "score", score)
    monkeypatch.setattr(trial.run, "load_run", lambda folder, config: SimpleNamespace(variables={}, config=config))
    choices = {"own": Choice("default", "by head", 0.6, ""), "fly": Choice("prototypes", "by prototypes", 0.5, "")}
    monkeypatch.setattr(trial, "choose_for_parts", lambda run, parts: choices[parts[0].name])
    parts = {name: (SimpleNamespace(name=name),) for name in ("own", "fly")}
    targets = trial.score_parts(Path(), small_config(), SimpleNamespace(train=()), parts, {}, regions={})
    assert seen == [("own", "by head", 0.6), ("fly", "by prototypes", 0.5)] * 2
    assert targets["fly"]["teacher"]["prediction_head"] == "prototypes"


def test_the_whole_program(volume_files, tmp_path):
    """Two methods, two trials at a time, by the command line; then nothing is left to do."""
    flags = [f"--config.base.data.{key.replace('train_', '')}={path}" for key, path in volume_files.items()]
    flags += ["--config.only=supervised,dualrel", "--config.labelled=1/3", "--config.seeds=1", "--config.bounds=False"]
    flags += ["--config.base.data.train_region=0:9", "--config.base.data.validation_region=none"]
    flags += ["--config.base.augment.blur_px=0", "--config.base.augment.flips=False"]  # seconds less to compile
    flags += ["--config.base.model.width=4", "--config.base.model.depth=2", "--config.base.train.crop_px=32"]
    flags += ["--config.base.train.steps=3", "--config.base.train.log_every_steps=1", "--config.base.train.devices=1"]
    flags += ["--config.rows.dualrel.method.feature_level=1", "--config.base.predict.tile=48", "--config.processes=2"]
    flags += ["--config.base.predict.overlap=16", "--config.base.train.optimizer=adamw"]
    command = [sys.executable, "-m", "dualrel_jax.benchmark", "--config=configs/benchmark.py:own"]
    command += [f"--workdir={tmp_path}", *flags]
    first = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert first.returncode == 0, first.stdout + first.stderr
    scores = {path: path.stat().st_mtime_ns for path in tmp_path.glob("1_3/*/seed_*/scores.json")}
    assert len(scores) == 2
    for path in scores:
        trial = json.loads(path.read_text())
        assert (trial["steps"], trial["labelled_slices"]) == (3, 3)
        for weights in ("teacher", "student"):
            assert len(trial["targets"]["own"][weights]["records"]) == trial["targets"]["own"][weights]["slices"] == 12
        assert trial["peak_memory_mib"] > 10
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(row["row"], row["seeds"]) for row in rows] == [("supervised", "1"), ("dualrel", "1")]
    assert all(0 <= float(row["jac_pooled_percent"]) <= 100 for row in rows)

    second = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert second.returncode == 0 and "2 trials, 0 of them to run" in second.stdout
    assert scores == {path: path.stat().st_mtime_ns for path in scores}
