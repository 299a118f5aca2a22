"""The calibrated threshold: masks beside labelled slices cover what the labels cover, and nothing else is looked at."""

import types
from dataclasses import dataclass

import numpy as np
import pytest

from dualrel_jax.data.datasets.partition import Partition, make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.inference import threshold
from dualrel_jax.inference.choice import choose_for_parts
from dualrel_jax.inference.run import load_run
from dualrel_jax.inference.z_smoothing import mirrored, smoothed
from dualrel_jax.train import train


def part(step_nm=20.0, true=None):
    """Slices of 32 x 32, their labels `true`; all grey values are z: a predictor knows the slice by them."""
    image = Stack(step_nm and (step_nm, 5.0, 5.0))
    image_at = lambda z: np.full((32, 32), z, np.uint8)  # noqa: E731
    about = {"name": "volume", "image": image, "shape_at_training": (32, 32)}
    return types.SimpleNamespace(**about, image_at=image_at, label_at=lambda z: true)


@dataclass
class Stack:
    """An image of 40 slices of which only the voxel size is read."""

    voxel_nm: tuple[float, float, float] | None

    def __len__(self):
        return 40


class Fake:
    """A predictor by a function image y x -> probability y x."""

    def __init__(self, probability):
        self.probability = probability

    def each(self, variables, images):
        return map(self.probability, images)


def partition(labelled, free):
    name = lambda zs: tuple(("volume", z) for z in zs)  # noqa: E731
    return Partition(name(labelled), name(free))


def test_neighbours_are_unlabelled_near_and_few():
    near = lambda step_nm, labelled: [  # noqa: E731
        (z, near) for _, z, near in threshold.neighbours([part(step_nm=step_nm)], partition(labelled, range(40)))
    ]
    assert near(5.0, [3, 20]) == [(3, [0, 2, 5, 7]), (20, [16, 18, 22, 24])]
    assert near(8.0, [20]) == [(20, [18, 19, 21, 22])]
    assert near(50.0, [0, 20, 21]) == [(0, [1]), (20, [19]), (21, [22])]
    assert near(None, [20]) == near(float("nan"), [20]) == [(20, [19, 21])]
    assert near(150.0, [20]) == []
    many = threshold.neighbours([part()], partition(range(0, 200, 2), range(1, 200, 2)))
    assert len(many) == threshold.LABELLED and many[0][1] == 0 and many[-1][1] == 198


@pytest.mark.parametrize("power", [0.5, 1.0, 1.8])
def test_masks_of_the_slices_beside_cover_what_the_label_covers(power):
    """A probability that is too large (power below 1) or too small everywhere; pixels to ignore count nowhere."""
    rng = np.random.default_rng(0)
    right = rng.random((32, 32))
    label = (right > 0.5).astype(np.uint8)
    label[:4] = 255
    predictor = Fake(lambda image: np.where(image == 20, 0.0, right**power).astype(np.float32))
    found = threshold.calibrate(predictor, None, [part(true=label)], partition([20], range(40)))
    assert abs(found - 0.5**power) < 0.01


def test_the_threshold_of_an_average_along_z_is_that_of_the_averaged_probabilities():
    """Slices that flicker: their average is flatter, and another threshold covers as much as the label."""
    rng = np.random.default_rng(0)
    of_slice = rng.random((40, 32, 32)).astype(np.float32) ** 2
    label = (rng.random((32, 32)) > 0.7).astype(np.uint8)
    volume = part(step_nm=10.0, true=label)
    predictor = Fake(lambda image: of_slice[int(image[0, 0])])
    near = threshold.neighbours([volume], partition([20], range(40)))[0][2]
    averaged = list(smoothed(map(mirrored, of_slice, range(40)), range(40), near, sigma=2.0))
    chosen = partition([20], range(40))
    single, average = (
        threshold.calibrate(predictor, None, [volume], chosen, smoothing_nm=smoothing_nm)
        for smoothing_nm in (0.0, 20.0)
    )
    assert np.mean(np.stack(averaged) > average) == pytest.approx(label.mean(), abs=0.01)
    assert np.mean(np.stack(averaged) > single) < label.mean() - 0.1


def test_a_threshold_stays_near_the_middle_and_there_without_evidence():
    label = np.zeros((32, 32), np.uint8)
    sure = Fake(lambda image: np.full((32, 32), 0.9, np.float32))
    assert threshold.calibrate(sure, None, [part(true=label)], partition([20], range(40))) is None
    label[0] = 1
    limit = threshold.calibrate(sure, None, [part(true=label)], partition([20], range(40)))
    assert limit == 0.75 and "of single slices is 0.75, its limit: there masks" in threshold.explain(limit)
    assert "of slices averaged along z is 0.60:" in threshold.explain(0.6, smoothing_nm=20.0)
    without = threshold.calibrate(sure, None, [part(true=label)], partition(range(40), range(40)))
    assert without is None and "0.50, not calibrated" in threshold.explain(without)
    exact = Fake(lambda image: label.astype(np.float32))  # any threshold would do
    assert threshold.calibrate(exact, None, [part(true=label)], partition([20], range(40))) == 0.5


def test_a_run_keeps_its_threshold_for_when_the_training_volume_is_gone(small_config, tmp_path, capsys):
    config = small_config("supervised")
    train(config, tmp_path / "run")
    run = load_run(tmp_path / "run", config)
    dataset = load_dataset(config.data)
    chosen = make_partition(dataset.train, config.data)
    found = run.calibrated_threshold("default")
    assert found == threshold.calibrate(run.predictor, run.variables, dataset.train, chosen)
    assert "cover as much as the labels do" in capsys.readouterr().out
    with config.unlocked():
        config.predict.threshold = 0.4
    known = load_run(tmp_path / "run", config)
    assert choose_for_parts(known, dataset.test).threshold == 0.4
    known.config.unlock()
    known.config.predict.threshold, known.config.predict.foreground_fraction = 0.0, 0.2
    found_in_test = [known.predictor(known.variables, part.image_at(z)) for part in dataset.test for z in part.zs]
    value = choose_for_parts(known, dataset.test).threshold
    assert (np.stack(found_in_test) > value).mean() == pytest.approx(0.2, abs=0.01)

    gone = load_run(tmp_path / "run")
    gone.config.data.image = str(tmp_path / "gone.tif")
    assert gone.calibrated_threshold("default") == found
    (tmp_path / "run" / "threshold.json").unlink()
    again = load_run(tmp_path / "run")
    again.config.data.image = str(tmp_path / "gone.tif")
    assert again.calibrated_threshold("default") == 0.5
    assert "gone.tif" in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.003, 0.03, 0.4])
def test_the_threshold_of_a_known_share_covers_that_share(share):
    rng = np.random.default_rng(1)
    sections = [rng.random((64, 64)).astype(np.float32) ** 3 for _ in range(4)] + [np.zeros((64, 64), np.float32)]
    assert np.mean(np.stack(sections) > threshold.of_fraction(sections, share)) == pytest.approx(share, abs=0.003)
