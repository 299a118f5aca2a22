"""Partitions: how many slices keep their labels, which, and that the file can be passed back in."""

import json
from types import SimpleNamespace

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from dualrel_jax.data.datasets.partition import Partition, labelled_count, make_partition
from dualrel_jax.errors import InputError


def part(name, zs, labelled_zs=None):
    return SimpleNamespace(name=name, zs=tuple(zs), labelled_zs=tuple(zs if labelled_zs is None else labelled_zs))


def config(labelled, **fields):
    return tiny.config("lucchi", labelled, **fields)


@pytest.mark.parametrize(
    "labelled, count", [("1/32", 5), ("1/16", 10), ("1/8", 20), ("1/2", 82), ("all", 165), ("5", 5)]
)
def test_counts_of_lucchi_are_those_of_the_paper(labelled, count):
    partition = make_partition([part("lucchi/train", range(165))], config(labelled))
    assert len(partition.labelled) == count
    assert len(partition.unlabelled) == (165 if labelled == "all" else 165 - count)
    assert set(partition.labelled) | set(partition.unlabelled) == {("lucchi/train", z) for z in range(165)}


def test_uniform_takes_the_centres_of_equal_blocks():
    partition = make_partition([part("a", range(128))], config("1/32"))
    assert partition.labelled == (("a", 16), ("a", 48), ("a", 80), ("a", 112))


@given(total=st.integers(1, 300), data=st.data())
def test_uniform_is_even_and_symmetric_enough(total, data):
    count = data.draw(st.integers(1, total))
    zs = [z for _, z in make_partition([part("a", range(total))], config(str(count))).labelled]
    gaps = [b - a for a, b in zip(zs, zs[1:], strict=False)]
    assert len(zs) == count
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert abs(zs[0] - (total - 1 - zs[-1])) <= 1


def test_only_slices_with_a_label_are_chosen_and_other_volumes_join_unlabelled():
    parts = [part("own/train", range(20), labelled_zs=(3, 9, 15)), part("own/unlabelled1", range(4), labelled_zs=())]
    partition = make_partition(parts, config("1/3"))
    assert partition.labelled == (("own/train", 9),)
    assert ("own/train", 3) in partition.unlabelled and ("own/unlabelled1", 2) in partition.unlabelled
    assert len(partition.unlabelled) == 23


def test_random_depends_on_its_seed_alone():
    parts = [part("a", range(128))]
    first, again, other = (
        make_partition(parts, config("1/8", partition="random", partition_seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert list(first.labelled) == sorted(set(first.labelled)) and len(first.labelled) == 16


def test_a_file_is_readable_and_comes_back(tmp_path):
    parts = [part("a", range(12))]
    partition = make_partition(parts, config("1/4", partition="random"))
    file = tmp_path / "partition.json"
    partition.save(file)
    assert Partition.load(file) == partition
    assert make_partition(parts, config("1/32", partition_file=str(file))) == partition
    assert len(file.read_text().splitlines()) == 12 + 6  # one slice a line


@pytest.mark.parametrize(
    "parts",
    [[part("b", range(12))], [part("a", range(3))], [part("a", range(12), labelled_zs=(0, 1))]],
)
def test_a_file_of_other_data_is_refused(tmp_path, parts):
    file = tmp_path / "partition.json"
    make_partition([part("a", range(12))], config("1/4")).save(file)
    with pytest.raises(InputError, match="which this data does not have"):
        make_partition(parts, config("1/4", partition_file=str(file)))


@pytest.mark.parametrize(
    "content",
    ["{", "[]", json.dumps({"labelled": [["a"]], "unlabelled": []}), json.dumps({"labelled": []})],
)
def test_a_broken_file_is_refused(tmp_path, content):
    file = tmp_path / "partition.json"
    file.write_text(content)
    with pytest.raises(InputError, match="is not a partition"):
        make_partition([part("a", range(12))], config("all", partition_file=str(file)))


def test_a_file_may_not_repeat_or_be_empty_or_missing(tmp_path):
    file = tmp_path / "partition.json"
    for partition, said in (
        (Partition((("a", 1), ("a", 1)), ()), "twice"),
        (Partition((), (("a", 1),)), "no labelled slice"),
    ):
        partition.save(file)
        with pytest.raises(InputError, match=said):
            make_partition([part("a", range(12))], config("all", partition_file=str(file)))
    with pytest.raises(InputError, match="cannot be read"):
        make_partition([part("a", range(12))], config("all", partition_file=str(tmp_path / "none.json")))


def test_a_share_that_selects_nothing_names_the_smallest_usable():
    with pytest.raises(InputError, match=r"none of the 20 .* 1/20"):
        make_partition([part("a", range(20))], config("1/32"))


def test_a_count_of_more_than_there_are_is_refused():
    with pytest.raises(InputError, match="data.labelled=21 is more than the 20"):
        labelled_count("21", 20)


def test_a_share_may_have_any_numerator():
    assert labelled_count("3/8", 20) == 7


def test_data_without_labels_is_refused():
    with pytest.raises(InputError, match="no labelled slice"):
        make_partition([part("a", range(20), labelled_zs=())], config("all"))


@pytest.mark.parametrize(
    ("count", "without", "with_both"),
    [
        (1, "1 slice trains with its label, none without", "1 labelled slice; all 1 also train without labels"),
        (2, "2 slices train with their labels, none without", "2 labelled slices; all 2 also train without labels"),
    ],
)
def test_one_slice_is_described_as_one(count, without, with_both):
    slices = tuple(("a", z) for z in range(count))
    assert Partition(slices, ()).describe(False) == without
    assert Partition(slices, slices).describe(True) == with_both
