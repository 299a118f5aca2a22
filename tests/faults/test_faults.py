"""Commands that are killed, that meet a full disk, or that run twice at once: all end as an undisturbed one does."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time

import jax
import numpy as np
import pytest
from harness import Command, kill_and_continue, litter, run
from states import last_state

from dualrel_jax import config as config_lib
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.inference.prediction_record import FRACTION
from dualrel_jax.utils.jsonl import read_records

FORMATS = (".tif", ".zarr")


@pytest.fixture(scope="session")
def whole(tmp_path_factory, training_flags, prediction_flags):
    """A folder of undisturbed work (run/, tif/mask.tif, zarr/mask.zarr, cells.tif); seconds of each command by name."""
    folder = tmp_path_factory.mktemp("whole")
    workdir, log = f"--workdir={folder / 'run'}", folder / "log"
    seconds = {"training": run([*training_flags, workdir], log)}
    for suffix in FORMATS:
        output = f"--config.predict.output={folder / suffix[1:] / f'mask{suffix}'}"
        seconds[suffix] = run([*prediction_flags, workdir, output], log)
    seconds["instances"] = run([*instance_flags(folder), workdir], log)
    assert not litter(folder)
    return folder, seconds


def instance_flags(folder, output=None):
    return [
        "--mode=instances",
        f"--config.instances.input={folder / 'tif' / 'mask_probability.tif'}",
        f"--config.instances.output={output or folder / 'cells.tif'}",
        "--config.instances.min_um3=0",
    ]


def same_run(folder, other):
    """Both trainings are finished, with the same weights, optimizer and log, and nothing is left beside them."""
    states = []
    for place in (folder, other):
        step, state = last_state(place, config_lib.load(place / "config.json"))
        states.append([np.asarray(step), *jax.tree.leaves(jax.device_get(state))])
    for one, two in zip(*states, strict=True):
        np.testing.assert_array_equal(one, two)
    records = [
        [{key: value for key, value in record.items() if not key.startswith("speed/")} for record in read_records(path)]
        for path in (folder / "metrics.jsonl", other / "metrics.jsonl")
    ]
    assert records[0] == records[1]
    assert not litter(folder)


def same_volume(path, other):
    np.testing.assert_array_equal(open_volume(path, verbose=False)[:], open_volume(other, verbose=False)[:])


def same_prediction(folder, whole_folder, suffix):
    expected = whole_folder / suffix[1:]
    for name in ("mask", "mask_probability"):
        same_volume(folder / f"{name}{suffix}", expected / f"{name}{suffix}")
    record, of_whole = (json.loads((place / "mask.json").read_text()) for place in (folder, expected))
    fraction = np.mean(open_volume(folder / f"mask{suffix}", verbose=False)[:] > 0)
    assert record[FRACTION] == pytest.approx(fraction)
    assert record == of_whole
    assert not litter(folder)


def same_instances(folder, whole_folder):
    same_volume(folder / "cells.tif", whole_folder / "cells.tif")
    rows = [list(csv.reader((place / "cells.csv").open())) for place in (folder, whole_folder)]
    assert rows[0] == rows[1]
    assert not litter(folder)


def moments(seed, seconds, count):
    return list(np.random.default_rng(seed).uniform(0, 1.1 * seconds, count))


def check_kills(kind, count, whole, tmp_path, training_flags, prediction_flags):
    """Kills a command `count` times; -> how often it was killed indeed."""
    folder, seconds = whole
    log, at = tmp_path / "log", moments(count, seconds[kind], count)
    finished = f"--workdir={folder / 'run'}"
    place = tmp_path / "out"
    if kind == "training":
        at = moments(count, run([*training_flags, f"--workdir={place}"], log), count)  # without compiling
        shutil.rmtree(place)

        def check():
            same_run(place, folder / "run")
            shutil.rmtree(place)

        return kill_and_continue([*training_flags, f"--workdir={place}"], log, at, check)
    place.mkdir()
    if kind == "instances":
        argv = [*instance_flags(folder, place / "cells.tif"), finished]
        return kill_and_continue(argv, log, at, lambda: same_instances(place, folder))
    argv = [*prediction_flags, finished, f"--config.predict.output={place / f'mask{kind}'}"]
    return kill_and_continue(argv, log, at, lambda: same_prediction(place, folder, kind))


@pytest.mark.parametrize("kind", [".tif", ".zarr", "instances"])  # a training: tests/test_train.py
def test_a_command_killed_twice(kind, whole, tmp_path, training_flags, prediction_flags):
    check_kills(kind, 2, whole, tmp_path, training_flags, prediction_flags)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("training", 30), (".tif", 20), (".zarr", 25), ("instances", 15)])
def test_a_command_killed_many_times(kind, count, whole, tmp_path, training_flags, prediction_flags):
    killed = check_kills(kind, count, whole, tmp_path, training_flags, prediction_flags)
    print(f"{kind}: killed {killed} of {count} times")
    assert killed > count / 2


@pytest.mark.slow
def test_a_benchmark_killed_ten_times(tmp_path, volume_files, training_flags):
    fields = [flag for flag in training_flags if flag.startswith(("--config.data", "--config.model", "--config.train"))]
    flags = [flag.replace("--config.", "--config.base.", 1) for flag in fields]
    flags += ["--config=configs/benchmark.py:own", "--config.only=supervised", "--config.labelled=1/3"]
    flags += ["--config.seeds=2", "--config.bounds=False", "--config.processes=1"]
    flags += [f"--config.base.data.test_{kind}={volume_files[f'test_{kind}']}" for kind in ("image", "label")]
    flags += ["--config.base.predict.tile=48", "--config.base.predict.overlap=8"]

    def scores(folder):
        text = (folder / "results.json").read_text()
        return re.sub(r'"((?:cpu_)?seconds_per_step|wall_seconds|peak_memory_mib)": [^,}]+', r'"\1": 0', text)

    program = "dualrel_jax.benchmark.__main__"
    seconds = run([*flags, f"--workdir={tmp_path / 'whole'}"], tmp_path / "log", program)
    expected = scores(tmp_path / "whole").replace(str(tmp_path / "whole"), "")

    def check():
        assert scores(tmp_path / "out").replace(str(tmp_path / "out"), "") == expected
        for seed in (0, 1):
            cell = f"1_3/supervised/seed_{seed}"
            same_run(tmp_path / "out" / cell, tmp_path / "whole" / cell)
        shutil.rmtree(tmp_path / "out")

    argv, at = [*flags, f"--workdir={tmp_path / 'out'}"], moments(10, seconds, 10)
    killed = kill_and_continue(argv, tmp_path / "log", at, check, program)
    print(f"benchmark: killed {killed} of 10 times")


@pytest.mark.parametrize("kind", [pytest.param("training", marks=pytest.mark.slow), ".zarr"])
def test_of_two_at_once_one_is_refused(kind, whole, tmp_path, training_flags, prediction_flags):
    folder = whole[0]
    place = tmp_path / "out"
    if kind == "training":
        argv = [*training_flags, f"--workdir={place}"]
    else:
        argv = [*prediction_flags, f"--workdir={folder / 'run'}", f"--config.predict.output={place / f'mask{kind}'}"]
    commands = [Command(argv, tmp_path / f"log{i}") for i in range(2)]
    codes = [command.wait() for command in commands]
    assert sorted(codes) in ([0, 0], [0, 2]), [command.output() for command in commands]
    if 2 in codes:
        refused = commands[codes.index(2)].output().strip().splitlines()
        assert len(refused) == 1 and "is being written by another command (process" in refused[0], refused
    same_run(place, folder / "run") if kind == "training" else same_prediction(place, folder, kind)


@pytest.mark.parametrize("kind", [pytest.param("training", marks=pytest.mark.slow), ".tif", ".zarr"])
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_it_in_a_sentence_and_the_same_command_continues(
    kind, number, whole, tmp_path, training_flags, prediction_flags
):
    folder, place = whole[0], tmp_path / "out"
    place.mkdir()
    if kind == "training":
        argv = [*training_flags, f"--workdir={place}"]
    else:
        argv = [*prediction_flags, f"--workdir={folder / 'run'}", f"--config.predict.output={place / f'mask{kind}'}"]
    command = Command(argv, tmp_path / "log")
    time.sleep(0.7 * whole[1][kind])
    with contextlib.suppress(ProcessLookupError):
        os.kill(command._process.pid, number)
    code, lines = command.wait(), command.output().strip().splitlines()
    assert code in (0, 128 + number), lines  # 0: it was done
    if code:
        assert lines[-1].startswith("dualrel: Stopped") and "the same command" in lines[-1], lines
        left = [path for path in litter(place) if not path.endswith((".zarr.part", ".zarr.progress.json", "__lock"))]
        assert not [path for path in left if ".zarr.part/" not in path], left
    assert not any("Traceback" in line for line in lines)
    run(argv, tmp_path / "log")
    same_run(place, folder / "run") if kind == "training" else same_prediction(place, folder, kind)


@contextlib.contextmanager
def small_disk(folder, kib):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    if os.name == "nt" or os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield lambda kib: subprocess.run(["mount", "-o", f"remount,size={kib}k", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["training", ".tif", ".zarr", "instances"])
def test_a_full_disk_is_said_and_then_the_same_command_continues(
    kind, whole, tmp_path, training_flags, prediction_flags
):
    folder = whole[0]
    sizes = {"training": (30, 150, 400), ".tif": (4, 12, 40), ".zarr": (40, 150, 400), "instances": (4, 8, 40)}[kind]
    for kib in sizes:
        with small_disk(tmp_path / str(kib), kib) as enlarge:
            place = tmp_path / str(kib) / "out"
            if kind == "training":
                argv = [*training_flags, f"--workdir={place}"]
            elif kind == "instances":
                argv = [*instance_flags(folder, place / "cells.tif"), f"--workdir={folder / 'run'}"]
            else:
                output = f"--config.predict.output={place / f'mask{kind}'}"
                argv = [*prediction_flags, f"--workdir={folder / 'run'}", output]
            command = Command(argv, tmp_path / f"log{kib}")
            code, text = command.wait(), command.output()
            assert "Traceback" not in text and code in (0, 2), text
            if code == 2:
                assert re.search("full|room|No space", text.strip().splitlines()[-1]), text
            enlarge(64 * 1024)
            run(argv, tmp_path / f"log{kib}")
            if kind == "training":
                same_run(place, folder / "run")
            elif kind == "instances":
                same_instances(place, folder)
            else:
                same_prediction(place, folder, kind)


def test_damaged_records_of_a_run_are_named(whole, tmp_path, prediction_flags):
    place, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(whole[0] / "run", place)
    for name in ("config.json", "run.json"):
        good = (place / name).read_bytes()
        for bad in (None, b"", good[: len(good) // 2], b"[]", json.dumps({"method": 5, "pixel_nm": "x"}).encode()):
            (place / name).unlink() if bad is None else (place / name).write_bytes(bad)
            command = Command([*prediction_flags, f"--workdir={place}"], log)
            assert command.wait() == 2, command.output()
            lines = command.output().strip().splitlines()
            assert lines[-1].startswith("dualrel: ") and name in lines[-1] and "Traceback" not in command.output()
            (place / name).write_bytes(good)
