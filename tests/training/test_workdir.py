"""What is written beside a training, and when a second one in its folder is refused."""

import pytest

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
