"""What is written beside a training, and when a second one in its folder is refused."""

import json

import pytest
import tifffile

from dualrel_jax.data.datasets.partition import Partition, make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.errors import InputError
from dualrel_jax.training.workdir import claim_workdir, describe_run, explain_other_folder
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


def test_a_training_continued_from_another_folder_names_the_one_of_its_files(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"folder": "/data/project"}))
    with (
        pytest.raises(InputError, match="^a.tif does not exist. The training in .* began in the folder /data/project"),
        explain_other_folder(tmp_path),
    ):
        raise InputError("a.tif does not exist.")
    with pytest.raises(InputError, match="^a.tif does not exist.$"), explain_other_folder(tmp_path / "new"):
        raise InputError("a.tif does not exist.")


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_run_is_not_continued_on_files_that_changed(kind, small_config, tmp_path):
    """Under the same file name; the same label in another format is the same."""
    config, run, file = small_config("supervised"), tmp_path / "run", tmp_path / "file.tif"
    stack = tifffile.imread(config.data[kind])

    def train_on(stack):
        tifffile.imwrite(file, stack)
        config.data[kind] = str(file)
        dataset = load_dataset(config.data)
        describe_run(run, dataset, make_partition(dataset.train, config.data), sharding.create_mesh(1))

    run.mkdir()
    train_on(stack)
    train_on(stack if kind == "image" else (stack > 0).astype("uint16") * 255)
    (z, *_) = [z for _, z in Partition.load(run / "partition.json").labelled]
    again = stack.copy()
    again[z, :4, :4] = stack.max() * (stack[z, :4, :4] == 0)
    with pytest.raises(InputError, match=rf"file.tif: slice {z} of the {kind}s? changed since.*--init {run}"):
        train_on(again)
    (run / "run.json").write_text(json.dumps({"pixel_nm": None}))  # as versions before checksums wrote it
    train_on(again)
    with pytest.raises(InputError, match="other data"):
        train_on(stack)
