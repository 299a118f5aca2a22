"""Which slices to label next: the choice by disagreement and novelty, and the command on a run."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import dualrel_jax
from dualrel_jax import suggest
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.suggest import Candidate, choose, regions_of
from dualrel_jax.train import train


def part(name="a", shape=(40, 50, 70), step_nm=30.0):
    volume = Volume.from_array(np.zeros(shape, np.uint8), (step_nm, 5.0, 5.0), name)
    return Part(name, volume, None, tuple(range(shape[0])), (), None, (10.0, 10.0), (0, 255))


def whole(z, disagreement=0.0, of=None):
    return Candidate(of or part(), z, (0, 50), (0, 70), disagreement)


def test_the_next_slice_has_disagreement_and_is_far_from_labelled_and_chosen_ones():
    slices = [whole(z, 1.0 if z in (19, 20, 21) else 0.5) for z in range(40) if z != 22]
    picks = choose(slices, [whole(22)], 3)
    # Evenly spaced, four slices would lie 39 / 4 apart: within that, novelty is the distance in proportion.
    assert [pick.region.z for pick in picks] == [0, 10, 32]
    assert [pick.novelty for pick in picks] == [1, 1, 1]
    unknown = part(step_nm=float("nan"))
    apart = {pick.region.z for pick in choose([whole(z, 0.5, unknown) for z in range(40)], [whole(22, of=unknown)], 3)}
    assert len(apart) == 3 and min(abs(z - other) for z in apart for other in apart - {z}) > 5
    (beside,) = choose([whole(20, 1.0), whole(30, 0.1)], [whole(22)], 1)
    assert beside.region.z == 20 and beside.novelty == pytest.approx(0.4)  # 2 slices, where even spacing has 5


def test_a_labelled_slice_is_known_everywhere_and_a_labelled_box_only_there():
    everywhere = whole(20)
    beside, far = Candidate(part(), 21, (0, 10), (0, 10), 0.9), Candidate(part(), 30, (0, 10), (0, 10), 0.5)
    assert [pick.region.z for pick in choose([beside, far], [everywhere], 1)] == [
        30
    ]  # its corner is as known as its middle
    box = Candidate(part(), 20, (40, 50), (60, 70), 0.0)
    assert [pick.region.z for pick in choose([beside, far], [box], 1)] == [21]


def test_without_labels_in_the_volume_disagreement_alone_decides():
    picks = choose([whole(z, z / 40) for z in range(40)], [whole(0, of=part("another volume"))], 1)
    assert picks[0].region.z == 39 and picks[0].novelty == 1


def test_no_slice_is_suggested_twice():
    """Padding and blank slices have a disagreement of exactly 0."""
    picks = choose([whole(z, {10: 0.1, 30: 0.2}.get(z, 0.0)) for z in range(40)], [whole(0)], 5)
    assert [pick.region.z for pick in picks] == [30, 10]
    assert len(choose([whole(z) for z in range(4)], [whole(39)], 3)) == 1


def test_boxes_cover_a_slice_once_and_find_the_disagreement_in_it():
    disagreement = np.zeros((25, 35))  # half the pixels of the volume's 50 x 70
    disagreement[15:20, 5:10] = 1
    boxes = list(regions_of(part(), 3, disagreement, 20))
    covered = np.zeros((50, 70))
    for box in boxes:
        covered[slice(*box.y), slice(*box.x)] += 1
    assert (covered == 1).all()
    most = max(boxes, key=lambda box: box.disagreement)
    assert most.y == (20, 40) and most.x == (0, 20)
    (slice_,) = regions_of(part(), 3, disagreement, 0)
    assert slice_.disagreement == pytest.approx(disagreement.mean())


def test_slices_labelled_since_the_training_are_not_asked_for_again(capsys):
    volume = Volume.from_array(np.zeros((6, 8, 8), np.uint8), None, "a")
    parts = (Part("own/train", volume, None, tuple(range(6)), (1, 3, 4), None, None, (0, 255)),)
    config = dualrel_jax.get_config("supervised:own,all")
    run = SimpleNamespace(config=config, dataset=SimpleNamespace(train=parts), workdir=Path("runs/mine"))
    partition = Partition((("own/train", 1),), tuple(("own/train", z) for z in range(6)))
    asked, labelled = suggest.candidates_of(run, partition)
    assert [z for _, z in asked] == [0, 2, 5] and [z for _, z in labelled] == [1, 3, 4]
    assert (
        "Labelled since the training and left out: z = 3, 4. To learn from them: dualrel train runs/mine_2 --config "
        "runs/mine --init runs/mine\n"
    ) in capsys.readouterr().out
    config.data.labelled = "1/3"  # it left them out on purpose
    assert [z for _, z in suggest.candidates_of(run, partition)[0]] == [0, 2, 3, 4, 5]


def test_a_run_suggests_slices_that_a_training_takes_in(small_config, tmp_path):
    config = small_config("supervised")
    train(config, tmp_path)
    config.suggest.count = 2
    paths = suggest.suggest(tmp_path, config)
    rows = list(csv.DictReader(paths["table"].open()))
    before, after = Partition.load(tmp_path / "partition.json"), Partition.load(paths["partition"])
    chosen = {int(row["z"]) for row in rows if row["rank"]}
    assert len(chosen) == 2 and len(rows) == len(before.unlabelled)
    assert {z for _, z in after.labelled} == {z for _, z in before.labelled} | chosen
    assert not chosen & {z for _, z in after.unlabelled}
    assert paths["picture"].stat().st_size > 5000
    config.suggest.count = 0
    with pytest.raises(InputError, match="suggest.count is 0"):
        suggest.suggest(tmp_path, config)
