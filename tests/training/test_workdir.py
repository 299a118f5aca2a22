"""What is written beside a training, and when a second one in its folder is refused."""

import json

import pytest
import tifffile

from dualrel_jax.data.datasets.partition import Partition, make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.errors import InputError
from dualrel_jax.training.workdir import claim_workdir, describe_run
from dualrel_jax.utils import sharding


def test_a_run_is_not_continued_on_other_slices(small_config, tmp_path):
    """As when masks were added to a folder and the same command is given again."""
    config = small_config("supervised")
    dataset = load_dataset(config.data)
    claim_workdir(config, tmp_path)
    partition = make_partition(dataset.train, config.data)
    describe_run(tmp_path, dataset, partition, sharding.create_mesh(1))
    describe_run(tmp_path, dataset, partition, sharding.create_mesh(1))
    more = Partition(partition.labelled + partition.unlabelled[:1], partition.unlabelled[1:])
    with pytest.raises(InputError, match="slice 0 of own/train is now labelled.*another --workdir"):
        describe_run(tmp_path, dataset, more, sharding.create_mesh(1))
    assert Partition.load(tmp_path / "partition.json") == partition


def test_a_run_is_not_continued_on_labels_drawn_again(small_config, tmp_path):
    """Under the same file name; the same label in another format is the same."""
    config, run, labels = small_config("supervised"), tmp_path / "run", tmp_path / "labels.tif"
    drawn = tifffile.imread(config.data.label)

    def train_on(stack):
        tifffile.imwrite(labels, stack)
        config.data.label = str(labels)
        dataset = load_dataset(config.data)
        describe_run(run, dataset, make_partition(dataset.train, config.data), sharding.create_mesh(1))

    run.mkdir()
    train_on(drawn)
    train_on((drawn > 0).astype("uint16") * 255)
    (z, *_) = [z for _, z in Partition.load(run / "partition.json").labelled]
    again = drawn.copy()
    again[z, :4, :4] = drawn.max() * (drawn[z, :4, :4] == 0)
    with pytest.raises(InputError, match=rf"labels.tif: slice {z} changed since.*--init {run}"):
        train_on(again)
    (run / "run.json").write_text(json.dumps({"pixel_nm": None}))  # as versions before checksums wrote it
    train_on(again)
    with pytest.raises(InputError, match="other labels"):
        train_on(drawn)
