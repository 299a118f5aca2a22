"""The public data sets and the phantom by name: which slices go where, what labels mean, sentences for bad input."""

import h5py
import numpy as np
import pytest
import tifffile
from tiny import config, real_data, volume, write_layout, write_test_volume

from dualrel_jax.data.datasets import registry
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.public import LAYOUTS, read_layout
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError


def zs_of(part):
    return part.zs[0], part.zs[-1] + 1


@pytest.mark.parametrize(
    "name, train, labelled, test, voxel_nm",
    [
        ("lucchi", 12, 12, 5, (5.0, 5.0, 5.0)),
        ("lucchi_pp", 12, 12, 5, (5.0, 5.0, 5.0)),
        ("mitoem_r", 6, 6, 3, (30.0, 8.0, 8.0)),
        ("mitoem_h", 6, 6, 3, (30.0, 8.0, 8.0)),
        ("fly_brain", 12, 12, 0, (12.0, 12.0, 12.0)),
        ("glycolytic_muscle", 12, 12, 0, (18.0, 18.0, 18.0)),
    ],
)
def test_public_layouts(tmp_path, name, train, labelled, test, voxel_nm):
    write_layout(name, tmp_path)
    dataset = load_dataset(config(name, dir=str(tmp_path)))
    assert [part.name for part in (*dataset.train, *dataset.test)] == [f"{name}/train"] + [f"{name}/test"] * (test > 0)
    (part,) = dataset.train
    assert (len(part.zs), len(part.labelled_zs)) == (train, labelled) and part.pixel_nm == voxel_nm[1:]
    assert [len(part.labelled_zs) for part in dataset.test] == [test] * (test > 0)
    for each in (part, *dataset.test):
        assert each.image.voxel_nm == voxel_nm
        for z in each.labelled_zs:
            image, label = each.image_at(z), each.label_at(z)
            assert image.dtype == label.dtype == np.uint8 and image.shape == label.shape == each.shape_at_training
            assert set(np.unique(label)) == {0, 1}
            # Image and label belong together: mitochondria of these volumes are darker by far.
            assert image[label == 0].mean() - image[label == 1].mean() > 50


def test_vnc_takes_the_second_stack_as_unlabelled(tmp_path):
    write_layout("vnc", tmp_path)
    dataset = load_dataset(config("vnc", dir=str(tmp_path)))
    train, unlabelled = dataset.train
    assert (zs_of(train), zs_of(dataset.validation[0])) == ((0, 14), (16, 20))
    assert (unlabelled.name, len(unlabelled.zs), unlabelled.labelled_zs) == ("vnc/unlabelled", 20, ())
    assert dataset.test == ()
    assert 0.2 < dataset.validation[0].label_at(16).mean() < 0.4  # grey labels: 40 is background


def test_lucchi_pp_from_its_hdf5_mirror(tmp_path):
    folder = tmp_path / "lucchi_pp"
    folder.mkdir()
    image, mask = volume(4)
    for file, array in (("train_im", image), ("train_mito", mask.astype(np.uint8))):
        with h5py.File(folder / f"{file}.h5", "w") as target:
            target["main"] = array
    part = load_dataset(config("lucchi_pp", dir=str(tmp_path))).train[0]
    assert np.array_equal(part.native_label_at(2), mask[2])


def test_an_archive_unpacked_one_folder_too_deep_is_found(tmp_path):
    folder = write_layout("vnc", tmp_path / "unpacked")
    (tmp_path / "vnc").mkdir()
    folder.rename(tmp_path / "vnc" / "groundtruth-drosophila-vnc-master")
    assert read_layout("vnc", tmp_path)["train"].image.shape == (20, 40, 48)


def test_data_are_also_found_through_the_environment(tmp_path, monkeypatch):
    write_layout("lucchi", tmp_path / "here")
    write_layout("lucchi", tmp_path / "there")
    monkeypatch.setenv("DUALREL_DATA", str(tmp_path / "there"))
    for folder, expected in ((tmp_path / "here", "here"), (tmp_path / "nowhere", "there")):
        part = load_dataset(config("lucchi", dir=str(folder))).train[0]
        assert part.image.path == str(tmp_path / expected / "lucchi" / "training.tif")


def test_missing_files_are_named_with_the_way_to_get_them(tmp_path, monkeypatch):
    monkeypatch.delenv("DUALREL_DATA", raising=False)
    with pytest.raises(InputError, match=r"lucchi/training.tif is missing.*dualrel download lucchi.*epfl"):
        load_dataset(config("lucchi", dir=str(tmp_path)))
    for name in LAYOUTS:
        with pytest.raises(InputError, match=rf"{name}/\S+ is missing; .*put \S+.* by hand \(from https?://\S+"):
            load_dataset(config(name, dir=str(tmp_path)))
    (write_layout("lucchi", tmp_path) / "training_groundtruth.tif").unlink()
    with pytest.raises(InputError, match=r"training_groundtruth.tif is missing"):
        load_dataset(config("lucchi", dir=str(tmp_path)))


def test_stacks_of_different_shape_are_refused_with_both_shapes(tmp_path):
    folder = write_layout("lucchi", tmp_path)
    tifffile.imwrite(folder / "training_groundtruth.tif", np.zeros((12, 40, 47), np.uint8))
    with pytest.raises(InputError, match="40 x 47.*40 x 48"):
        load_dataset(config("lucchi", dir=str(tmp_path)))
    tifffile.imwrite(folder / "training_groundtruth.tif", np.zeros((11, 40, 48), np.uint8))
    with pytest.raises(InputError, match="12 slices.*11"):
        load_dataset(config("lucchi", dir=str(tmp_path)))


def test_a_mitoem_label_without_its_image_is_named(tmp_path):
    folder = write_layout("mitoem_r", tmp_path)
    (folder / "im" / "im0401.png").unlink()
    with pytest.raises(InputError, match="seg0401.tif.*im0401.png"):
        load_dataset(config("mitoem_r", dir=str(tmp_path)))


@pytest.mark.parametrize("name", ["phantom", "phantom_b"])
def test_phantom(name, monkeypatch):
    def small(name, part):
        arrays = volume({"train": 148, "test": 24}[part], shape=(16, 16))
        return tuple(Volume.from_array(array, (30.0, 8.0, 8.0), name) for array in arrays)

    monkeypatch.setattr(registry, "phantom", small)
    dataset = load_dataset(config(name))
    assert (zs_of(dataset.train[0]), zs_of(dataset.validation[0])) == ((0, 128), (132, 148))
    assert len(dataset.test[0].labelled_zs) == len(dataset.test[0].image)
    assert {0, 1} == set(np.unique(dataset.train[0].label_at(64)))


def test_the_phantom_has_no_tfds_builder():
    with pytest.raises(InputError, match="only lucchi"):
        load_dataset(config("phantom", source="tfds"))


def test_the_real_lucchi():
    folder = real_data("lucchi")
    dataset = load_dataset(config("lucchi", dir=str(folder.parent), pixel_nm=10.0))
    train, validation = dataset.train[0], dataset.validation[0]
    assert (zs_of(train), zs_of(validation)) == ((0, 128), (133, 165))
    assert train.image_at(50).shape == train.label_at(50).shape == (384, 512)
    assert train.native_label_at(50).shape == (768, 1024)
    native, half = train.native_label_at(50).mean(), train.label_at(50).mean()
    assert 0.02 < native < 0.1 and half == pytest.approx(native, rel=0.02)
    assert dataset.test == () or len(dataset.test[0].zs) == 165


@pytest.mark.parametrize(
    "name, shape, foreground", [("fly_brain", (256, 255, 255), 0.102), ("glycolytic_muscle", (192, 383, 765), 0.030)]
)
def test_the_real_volumes_of_mitonet(name, shape, foreground):
    dataset = load_dataset(config(name, dir=str(real_data(name).parent)))
    (train,), (validation,) = dataset.train, dataset.validation
    assert train.image.shape == shape and train.zs[-1] < validation.zs[0] and validation.zs[-1] == shape[0] - 1
    decoded = [part.native_label_at(z).mean() for part in (train, validation) for z in part.zs[::4]]
    assert np.mean(decoded) == pytest.approx(foreground, abs=0.01)


def test_the_real_vnc():
    dataset = load_dataset(config("vnc", dir=str(real_data("vnc").parent)))
    assert [part.image.shape for part in dataset.train] == [(20, 1024, 1024)] * 2
    assert np.mean([part.label_at(z).mean() for part in dataset.validation for z in part.zs]) == pytest.approx(
        0.054, abs=0.01
    )


def test_every_slice_may_train(tmp_path):
    write_layout("vnc", tmp_path)
    dataset = load_dataset(config("vnc", dir=str(tmp_path), train_region="0:20", validation_region="none"))
    assert len(dataset.train[0].zs) == 20 and dataset.validation == ()


def test_public_training_and_validation_may_not_overlap(tmp_path):
    write_layout("vnc", tmp_path)
    with pytest.raises(InputError, match="data.train_region=0:18 overlaps the validation slices 16:20"):
        load_dataset(config("vnc", dir=str(tmp_path), train_region="0:18"))


def test_a_test_volume_replaces_that_of_a_public_data_set(tmp_path):
    write_layout("lucchi", tmp_path)
    fields = write_test_volume(tmp_path)
    with pytest.raises(InputError, match="test.tif does not state.*data.test_voxel_nm"):
        load_dataset(config("lucchi", dir=str(tmp_path), **fields))
    (test,) = load_dataset(config("lucchi", dir=str(tmp_path), test_voxel_nm="5,2.5,2.5", **fields)).test
    assert (test.image.path, test.shape_at_training) == (fields["test_image"], (40, 48))


def test_slices_of_another_microscope_join_the_unlabelled_ones_without_their_labels(tmp_path):
    for name in ("lucchi", "vnc"):
        write_layout(name, tmp_path)
    chosen = config("lucchi", labelled="3", dir=str(tmp_path), unlabelled_from="vnc", pixel_nm=10.0)
    own, foreign = load_dataset(chosen).train
    # VNC's second stack: it has slices without labels, so those it is scored on stay out.
    assert (foreign.name, len(foreign.zs), foreign.labelled_zs) == ("lucchi/vnc/unlabelled", 20, ())
    assert foreign.pixel_nm == own.pixel_nm == (10.0, 10.0)
    partition = make_partition((own, foreign), chosen)
    assert {name for name, _ in partition.labelled} == {"lucchi/train"}
    assert sum(name == foreign.name for name, _ in partition.unlabelled) == 20

    _, foreign = load_dataset(config("vnc", dir=str(tmp_path), unlabelled_from="lucchi")).train[1:]
    assert (foreign.name, foreign.labelled_zs) == ("vnc/lucchi/train", ())  # every slice has a label; none is read
    with pytest.raises(InputError, match="unlabelled_from=lucchi \\+ vnc names vnc; expected other data sets"):
        load_dataset(config("vnc", dir=str(tmp_path), unlabelled_from="lucchi + vnc"))
