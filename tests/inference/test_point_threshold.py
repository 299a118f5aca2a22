"""The threshold that clicks lead to."""

import numpy as np
import pytest

from dualrel_jax.data.io.points import Points, read_points
from dualrel_jax.errors import InputError
from dualrel_jax.inference.point_threshold import threshold_of_points
from dualrel_jax.metrics.segmentation import probability_histogram


def tissue(shift, seed=0):
    """(probability, is mitochondrion) of pixels where probabilities are off by `shift` logits."""
    rng = np.random.default_rng(seed)
    true_logit = rng.normal(-5, 3.5, 100_000)
    is_mitochondrion = rng.random(true_logit.size) < 1 / (1 + np.exp(-true_logit))
    return 1 / (1 + np.exp(-(true_logit + shift))), is_mitochondrion


def overlap(probability, truth, threshold):
    mask = probability > threshold
    return (mask & truth).sum() / (mask | truth).sum()


def points_of(truth, chosen, drawn=""):
    return Points("points.csv", np.zeros((len(chosen), 3), int), truth[chosen], drawn)


@pytest.mark.parametrize("shift", [-3, 0, 3])
def test_fifteen_points_by_probability_find_nearly_the_best_threshold(shift):
    probability, truth = tissue(shift)
    counts = probability_histogram(probability)
    best = max(overlap(probability, truth, t) for t in np.arange(0.02, 1, 0.02))
    rng = np.random.default_rng(1)
    reached = []
    for _ in range(10):
        levels = [(low < probability) & (probability <= low + 0.19) for low in np.linspace(0.05, 0.81, 5)]
        chosen = np.concatenate([rng.choice(np.flatnonzero(level), 3) for level in levels])
        result = threshold_of_points(probability[chosen], counts, points_of(truth, chosen, "probability"))
        reached.append(overlap(probability, truth, result.threshold))
        assert result.counted is None
    assert np.mean(reached) > best - 0.05
    if abs(shift) == 3:
        assert np.mean(reached) > overlap(probability, truth, 0.5) + 0.05


def test_chosen_points_do_not_tell_the_fraction_by_their_number():
    probability, truth = tissue(0)
    counts, rng = probability_histogram(probability), np.random.default_rng(2)
    results = []
    for on_mitochondria in (5, 25):
        chosen = [rng.choice(np.flatnonzero(truth == kind), n) for kind, n in ((1, on_mitochondria), (0, 15))]
        chosen = np.concatenate(chosen)
        results.append(threshold_of_points(probability[chosen], counts, points_of(truth, chosen)).fraction)
    assert abs(results[0] - results[1]) < 0.06  # of 0.12; by their number they would be 0.25 and 0.63


def test_random_points_are_counted_too():
    probability, truth = tissue(0)
    chosen = np.arange(100)
    result = threshold_of_points(
        probability[chosen], probability_histogram(probability), points_of(truth, chosen, "random")
    )
    low, high = result.counted
    assert low < truth.mean() < high
    assert result.interval[0] < truth.mean() < result.interval[1]
    assert f"{result.threshold:.2f}" in result.describe() and "counting" in result.describe()


@pytest.mark.parametrize("exchanged", [False, True])
def test_exchanged_classes_are_named(exchanged):
    probability, truth = tissue(0)
    rng = np.random.default_rng(3)
    chosen = np.concatenate([rng.choice(np.flatnonzero(truth == kind), 7) for kind in (False, True)])
    points = points_of(truth ^ exchanged, chosen)
    text = threshold_of_points(probability[chosen], probability_histogram(probability), points).describe()
    assert ("The classes seem exchanged: points on mitochondria have a mean probability of 0." in text) == exchanged


def test_clicks_in_micrometres_are_not_taken_for_voxels(tmp_path):
    path = tmp_path / "fiji.csv"
    path.write_text("z,y,x,class\n1,0.32,0.4,1\n1,0.4,0.5,0\n2,0.1,0.7,1\n")
    with pytest.raises(InputError, match="micrometres: in Fiji remove the scale"):
        read_points(path, (5, 160, 192))
    path.write_text("z,y,x,class\n1,32.4,40.5,1\n1,0.4,0.5,0\n2,0.1,0.7,1\n")
    assert len(read_points(path, (5, 160, 192)).zyx) == 3
