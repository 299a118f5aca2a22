"""Prediction by tasks in this process, against `predict_volume`, with a stand-in for the network."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from stand_in import Dark

import dualrel_jax
from dualrel_jax.data.io import ome_zarr
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference import box_tasks, predict_by_tasks
from dualrel_jax.inference.predict_volume import predict_volume, window_side
from dualrel_jax.inference.volume_predictor import VolumePredictor
from dualrel_jax.utils import tasks as tasks_lib

SHAPE = (22, 50, 70)
VOXEL_NM = (5.0, 5.0, 5.0)
NAMES = ("mask.zarr", "mask_probability.zarr")


@pytest.fixture
def volume():
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1.5)
    return Volume.from_array((128 + 300 * field).clip(0, 255).astype(np.uint8), VOXEL_NM, "/noise")


@pytest.fixture
def case(volume, tmp_path, monkeypatch):
    """A function (folder, tasks, settings) -> fraction of the mask; without tasks by `predict_volume`."""
    monkeypatch.setattr(ome_zarr, "CHUNK", (4, 16, 16))

    def run(folder, tasks=tasks_lib.in_this_process, **changed):
        config = dualrel_jax.get_config("supervised:phantom")
        settings = config.predict
        settings.update({"tile": 16, "overlap": 4, "window_px": 32, "task_slices": 7, "intensity_range": "0,255"})
        settings.update({"z_smoothing_nm": 0.0, "input": "/noise", **changed})
        grey, side = (0.0, 255.0), window_side(settings, ome_zarr.CHUNK)
        model = VolumePredictor(Dark(), 1.0, grey, None, settings.tile, settings.overlap, side)
        monkeypatch.setattr(box_tasks, "_open", lambda job: (model, volume, settings))
        output = tmp_path / folder / "mask.zarr"
        if tasks is None:
            return predict_volume(Dark(), 1.0, volume, output, settings, pixel_nm=None)[1]
        trained = SimpleNamespace(workdir=tmp_path, config=config, variables=1.0, pixel_nm=None)
        choice = SimpleNamespace(predictor=Dark(), prediction_head="head")
        return predict_by_tasks.predict_by_tasks(trained, choice, volume, output, settings=settings, tasks=tasks)[1]

    return run


def backwards(function, tasks):
    return tasks_lib.in_this_process(function, reversed(list(tasks)))


def arrays(folder):
    return [open_volume(folder / name, verbose=False)[:].astype(int) for name in NAMES]


def levels(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "how",
    [{}, {"z_smoothing_nm": 7.0}, {"region": "1:,3:,5:60", "z_smoothing_nm": 7.0}, {"foreground_fraction": 0.3}]
    + [{"unsure_margin": 0.02}, {"probability": False}],
)
def test_boxes_in_any_order_give_what_one_process_gives(case, tmp_path, how):
    assert case("a", None, **how) == case("b", backwards, **how)
    written = NAMES if how.get("probability", True) else NAMES[:1]
    for name in written:  # every level, bit for bit
        assert levels(tmp_path / "a" / name) == levels(tmp_path / "b" / name)
    records = [json.loads((tmp_path / folder / "mask.json").read_text()) for folder in "ab"]
    assert records[0] == records[1]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == sorted(["mask.json", "mask.png", *written])


def test_orthogonal_planes_of_boxes_differ_by_less_than_a_grey_value(case, tmp_path):
    how = {"planes": "xyz", "z_smoothing_nm": 4.0}
    case("a", None, **how), case("b", backwards, **how)
    for whole, boxes in zip(arrays(tmp_path / "a"), arrays(tmp_path / "b"), strict=True):
        assert (whole != boxes).mean() < 0.001
    assert abs(whole - boxes).max() <= 1


def test_tasks_write_no_chunk_together(case):
    owners = {}

    def watched(function, tasks):
        for task, result in tasks_lib.in_this_process(function, tasks):
            if hasattr(task, "z"):
                parts = zip((task.z, task.y, task.x), (4, 16, 16), strict=True)
                chunks = [range(start // n, -(-stop // n)) for (start, stop), n in parts]
                for chunk in itertools.product(*chunks):
                    assert owners.setdefault(chunk, task) is task
            yield task, result

    case("a", watched)
    assert len(owners) == 6 * 4 * 5


def test_a_stopped_prediction_continues_with_what_is_missing(case, tmp_path):
    case("a", None, foreground_fraction=0.3)
    seen = []

    def stopped(function, tasks):
        for task, result in backwards(function, tasks):
            if hasattr(task, "z") and function.func is box_tasks.predict_box:
                seen.append(task)
                if len(seen) == 5:
                    raise KeyboardInterrupt
            yield task, result

    with pytest.raises(KeyboardInterrupt):
        case("b", stopped, foreground_fraction=0.3)
    progress = tmp_path / "b" / "mask.zarr.tasks.jsonl"
    assert len(progress.read_text().splitlines()) == 2 + 4  # the job, the threshold, the boxes
    with progress.open("a") as file:
        file.write('{"box": "0:8,0:')  # a line that a kill cut short
    with pytest.raises(InputError, match="unfinished prediction with --cluster; repeat"):
        case("b", None, foreground_fraction=0.3)
    with pytest.raises(InputError, match="another config.predict.foreground_fraction"):
        case("b", foreground_fraction=0.4)
    again = []

    def counted(function, tasks):
        for task, result in tasks_lib.in_this_process(function, tasks):
            again.append(task)
            yield task, result

    case("b", counted, foreground_fraction=0.3)
    assert len([task for task in again if isinstance(task, box_tasks.TaskBox)]) == 3 * 6 - 4
    for name in NAMES:
        assert levels(tmp_path / "a" / name) == levels(tmp_path / "b" / name)
    assert not progress.exists()


def test_workers_that_outlive_a_command_know_the_jobs_of_the_next_from_its_own(case):
    """What they have opened is kept by job: the same command may be repeated on another volume of that name."""
    jobs = set()

    def watched(function, tasks):
        if getattr(function, "func", None) is box_tasks.predict_box:
            jobs.update(function.args)
        return tasks_lib.in_this_process(function, tasks)

    case("a", watched)
    case("a", watched)
    assert len(jobs) == 2


def test_tasks_do_not_continue_what_one_process_began(case, tmp_path, monkeypatch):
    calls = iter(range(30))
    monkeypatch.setattr(Dark, "__call__", lambda self, variables, images: next(calls) + images)
    with pytest.raises(Exception):  # noqa: B017
        case("a", None)
    with pytest.raises(InputError, match="unfinished prediction without --cluster; repeat"):
        case("a")


def test_what_tasks_cannot_share_is_refused(tmp_path):
    settings = dualrel_jax.get_config("supervised:phantom").predict
    with pytest.raises(InputError, match="predict.input"):
        predict_by_tasks.check_tasks(settings, tmp_path / "mask.zarr")
    settings.input = "em.zarr"
    with pytest.raises(InputError, match="ends in .zarr"):
        predict_by_tasks.check_tasks(settings, tmp_path / "mask.tif")
