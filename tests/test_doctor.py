"""--mode=doctor says nothing of true data, on three kinds of tissue, and finds each mistake made on purpose."""

import importlib.metadata
import importlib.util
import os
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax import doctor
from dualrel_jax.data.checks.rules import check_view
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.phantom import phantom
from dualrel_jax.doctor import examine
from dualrel_jax.errors import InputError
from dualrel_jax.train import print_start

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("DUALREL_DATA") or "no real data")
SPECIMENS = {  # name -> voxel size
    "phantom": "30,10,10",
    "lucchi": "5,5,5",
    "vnc": "50,4.6,4.6",
}


@pytest.fixture(scope="module", params=SPECIMENS)
def specimen(request):
    """(name, image z y x, label bool z y x) of a few slices."""
    if request.param == "phantom":
        image, label = phantom("phantom", "test")
        return request.param, image[4:12], label[4:12] > 0
    if not REAL.is_dir():
        pytest.skip("no real data; set DUALREL_DATA")
    names = {
        "lucchi": ("training.tif", "training_groundtruth.tif"),
        "vnc": ("stack1/raw", "stack1/mitochondria"),
    }[request.param]
    image, label = (open_volume(REAL / request.param / name, verbose=False)[4:12, :512, :512] for name in names)
    return request.param, image, label > 127


@pytest.fixture
def looks(tmp_path, monkeypatch):
    """A function: image and label z y x -> all that is to be looked at, as one text."""

    monkeypatch.setattr(
        "dualrel_jax.visualization.overlays.mask_sheet", lambda panels, path, pixel_nm, **_: path
    )  # half of the time
    monkeypatch.setattr("dualrel_jax.data.checks.rules._NARROW_NM", 0)  # crops are of 8 pixels here

    def examined(image, label, /, **fields):
        for name, array in (("image", image), ("label", label)):
            np.save(tmp_path / f"{name}.npy", array)
        config = dualrel_jax.get_config("supervised:own,all")
        config.model.stem, config.train.crop_px = 1, 8  # fits every shape below
        config.data.validation_region, config.data.pixel_nm = "none", 0.0
        config.data.update({"image": str(tmp_path / "image.npy"), "label": str(tmp_path / "label.npy"), **fields})
        return " ".join(finding.text for finding in examine(config, tmp_path / "run") if finding.look)

    return examined


def dots(label):
    """At most 50 foreground pixels a slice."""
    return label & (np.cumsum(label.reshape(len(label), -1), axis=1).reshape(label.shape) <= 50)


@pytest.mark.parametrize(("pixel_nm", "wanted"), [((5.0, 5.0), "pixel_nm=21"), ((20.0, 20.0), None), (None, None)])
def test_crops_that_show_too_little_are_named(pixel_nm, wanted):
    found = list(check_view(SimpleNamespace(pixel_nm=pixel_nm), 96))
    assert wanted in found[0].text if wanted else not found


def test_labels_of_itk_snap_on_the_volume_they_were_drawn_on(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image, label = phantom("phantom", "test")
    image, label = image[:8], label[:8]
    drawn = np.zeros(label.shape, np.uint16)
    drawn[[2, 5]] = label[[2, 5]] > 0
    for name, array in (("em", image), ("segmentation", drawn)):
        nibabel.save(nibabel.Nifti1Image(array.T, np.diag([-1e-5, -1e-5, 3e-5, 1])), tmp_path / f"{name}.nii.gz")
    config = dualrel_jax.get_config("supervised:own,all")
    config.data.image, config.data.label = str(tmp_path / "em.nii.gz"), str(tmp_path / "segmentation.nii.gz")
    findings = [finding.text for finding in examine(config, tmp_path / "run")]
    assert any("voxel 30 x 10 x 10 nm (from the file)" in text for text in findings)
    assert any("2 labelled slices (z = 2, 5)" in text for text in findings)
    assert not any("mirrored" in text or "moved" in text for text in findings)


MISTAKES = {
    "exchanged": (lambda image, label: (label * np.uint8(255), image), "exchange data.image and data.label"),
    "image twice": (lambda image, label: (image, image), "not like labels"),
    "labels twice": (lambda image, label: (label * np.uint8(255), label * np.uint8(255)), "not like an image"),
    "inverted": (lambda image, label: (image, ~label), "exchanged, or set data.label_kind"),
    "hardly any": (lambda image, label: (image, dots(label)), "label more"),
    "shifted": (
        lambda image, label: (image, np.roll(label, (9, -14), (1, 2))),
        "moved by -[789] pixels in y and 1[345] in x",
    ),
    "mirrored": (lambda image, label: (image, label[:, ::-1]), "mirrored in y"),
    "constant": (
        lambda image, label: (np.where(np.arange(8)[:, None, None] == 7, 90, image), label),
        r"1 of 8 .*z = 7",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_found(specimen, looks, mistake):
    _, image, label = specimen
    make, said = MISTAKES[mistake]
    image, label = make(image, label)
    assert re.search(said, looks(image, label.astype(np.uint8), voxel_nm="30,8,8"))


@pytest.mark.parametrize(
    ("change", "said"), [("shift", "moved by -2[3-7] pixels in y and -?[0-2] in x"), ("flip", "mirrored in x")]
)
def test_one_misplaced_mask_among_good_ones_is_named(specimen, looks, change, said):
    name, image, label = specimen
    if name == "vnc":
        pytest.skip("these quarters of slices hold too few mitochondria; whole ones are found")
    label = label.astype(np.uint8)
    label[5] = np.roll(label[5], 25, 0) if change == "shift" else label[5, :, ::-1]
    text = looks(image, label, voxel_nm=SPECIMENS[name])
    assert re.search(rf"^z = 5 of \S+label.npy does not follow the outlines .* better if {said}\): check", text)


def test_true_data_gives_no_alarm(specimen, looks):
    name, image, label = specimen
    label = label.astype(np.uint8)
    assert looks(image, label, voxel_nm=SPECIMENS[name]) == ""
    assert looks(image, 300 * label.astype(np.uint16), voxel_nm=SPECIMENS[name], pixel_nm=20.0) == ""
    assert looks(image, label[[5]], labelled_slices="5", voxel_nm=SPECIMENS[name]) == ""


def shifted_apart(slices, most=40):
    """As an alignment leaves them: each slice at another place in y and x, black strips beside it."""
    steps = np.linspace(0, most, len(slices)).astype(int)
    return np.stack([np.pad(one, ((k, most - k), (most - k, k))) for one, k in zip(slices, steps, strict=True)])


PADDED = {
    "frame": lambda slices, order: np.pad(slices, ((0, 0), (60, 60), (60, 60))),
    "white frame": lambda slices, order: np.pad(
        slices, ((0, 0), (60, 60), (60, 60)), constant_values=255 if order else 0
    ),
    "rotated": lambda slices, order: ndimage.rotate(slices, 12, (1, 2), order=order),
    "aligned": lambda slices, order: shifted_apart(slices),
}


@pytest.mark.parametrize("shape", PADDED)
def test_padding_gives_no_alarm_and_hides_none(specimen, looks, shape):
    name, image, label = specimen
    image, label = PADDED[shape](image, 1), PADDED[shape](label.astype(np.uint8), 0)
    nm = SPECIMENS[name]
    assert looks(image, label, voxel_nm=nm) == ""
    if name == "vnc":
        return  # these eight slices hold too few mitochondria: moved labels agree 1.4 times as well as by chance
    if shape == "frame":  # which is the same mirrored, so that only tissue tells
        assert "mirrored in x" in looks(image, label[:, :, ::-1], voxel_nm=nm)
    moved = "moved by -[789] pixels in y and 1[345] in x"
    assert re.search(moved, looks(image, np.roll(label, (9, -14), (1, 2)), voxel_nm=nm))


def test_labels_of_the_next_slice_and_wrong_axes_where_slices_are_thick(specimen, looks):
    name, image, label = specimen
    if name == "lucchi":
        pytest.skip("voxels are cubes: the next slice, and any order of axes, look as good")
    label = label.astype(np.uint8)
    assert "moved to the slice after" in looks(image[:-1], label[1:], voxel_nm="30,8,8")
    axes = (1, 2, 0)
    assert "are more alike" in looks(image.transpose(axes), label.transpose(axes), voxel_nm="30,8,8")


@pytest.fixture(scope="module")
def tissue():
    """Image and label z y x of a few slices of the phantom."""
    image, label = phantom("phantom", "test")
    return image[:8], label[:8]


def test_voxel_sizes_and_shapes(tissue, looks):
    image, label = tissue
    assert "does not state its voxel size" in looks(image, label)
    for sizes in ("0.03,0.008,0.008", "30000,10000,10000", "30,8,800", "5000,8,8"):
        with pytest.raises(InputError, match="voxel_nm=.* nm .z y x.; expected .* 0.5 to 100 nm.*a unit may be wrong"):
            looks(image, label, voxel_nm=sizes)
    assert "not known; training does without" in looks(image, label, voxel_nm="?,10,10")
    deep = (np.tile(array[:, :, :20], (6, 1, 1)) for array in tissue)
    assert "its axes are not z y x" in looks(*deep, voxel_nm="8,8,8")


def test_a_voxel_size_that_contradicts_the_file(tissue, looks, tmp_path):
    path, metadata = tmp_path / "em.tif", {"axes": "ZYX", "spacing": 30, "unit": "nm"}
    tifffile.imwrite(path, tissue[0], imagej=True, resolution=(0.1, 0.1), metadata=metadata)
    for voxel_nm in ("", "30,10,10", "30.1,10,10"):
        assert looks(*tissue, image=str(path), voxel_nm=voxel_nm) == ""
    said = looks(*tissue, image=str(path), voxel_nm="30,8,8")
    assert re.search(r"data.voxel_nm states voxels of 30 x 8 x 8 nm .*em.tif itself 30 x 10 x 10 nm", said)


def write_pngs(folder, slices, names):
    folder.mkdir()
    for image, name in zip(slices, names, strict=True):
        Image.fromarray(image).save(folder / name)
    return str(folder)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([f"im{z + 1:03d}.png" for z in range(8)], "^$"),
        ([f"im{10 * z}.png" for z in range(8)], "^$"),
        ([f"im{z + (z > 3)}.png" for z in range(8)], "^Number 4 is missing.*name masks by the numbers of the image's"),
        (
            [f"im{2 * z * z}.png" for z in range(8)],
            "^Numbers 4, 6, 10, 12, 14 and 37 more are missing.*if they are lost",
        ),
        ([f"{half}_{z}.png" for half in "ab" for z in range(4)], "^a_0.png and b_0.png of .* have the same number"),
    ],
)
def test_numbers_of_the_files_of_an_image_folder(tissue, looks, tmp_path, names, said):
    folder = write_pngs(tmp_path / "em", tissue[0], names)
    assert re.search(said, looks(*tissue, image=folder, voxel_nm="30,10,10"))


def test_empty_masks_in_a_folder_of_some_slices(tissue, looks, tmp_path):
    image, label = tissue
    masks = [label[3], *np.zeros_like(label[:2])]
    for names, said in (
        (["3.png"], "^$"),
        (["3.png", "5.png"], "/5.png is empty and counts as a slice without mitochondria: move it away"),
        (["3.png", "5.png", "6.png"], "/5.png is empty .and so is 6.png. and counts"),
    ):
        folder = write_pngs(tmp_path / f"{len(names)} masks", masks[: len(names)], names)
        assert re.search(said, looks(image, label, label=folder, voxel_nm="30,10,10"))


def test_the_picture_speaks_of_your_labels(small_config, volume_files, tmp_path, monkeypatch):
    """What is ignored there is not labelled; nothing is scored, and no mask is known to be true."""
    label = tifffile.imread(volume_files["train_label"])
    label[:, :9] = 7
    config, written = small_config("supervised", "all"), []
    config.data.update({"label": str(tmp_path / "label.tif"), "ignore_value": 7})
    tifffile.imwrite(config.data.label, label)
    legend = lambda figure: [text.get_text() for legend in figure.legends for text in legend.get_texts()]  # noqa: E731
    monkeypatch.setattr("dualrel_jax.visualization.canvas.save", lambda figure, path: written.extend(legend(figure)))
    examine(config, tmp_path / "run")
    assert written == ["your labels", "not labelled"]


def test_suspicious_masks_come_first_in_the_picture(tissue, tmp_path, monkeypatch):
    """Also those that are kept to validate on."""
    image, label = (np.tile(array, (5, 1, 1)) for array in tissue)
    label = (label > 0).astype(np.uint8)
    label[37] = 1 - label[37]
    drawn, shown = [1, 6, 11, 20, 27, 37], []
    np.save(tmp_path / "image.npy", image)
    config = dualrel_jax.get_config("supervised:own,all")
    folder = write_pngs(tmp_path / "masks", label[drawn], [f"{z}.png" for z in drawn])
    config.data.update({"image": str(tmp_path / "image.npy"), "label": folder, "voxel_nm": "30,10,10"})
    config.data.validation_region, config.data.train_region = "32:40", "0:28"
    monkeypatch.setattr(
        "dualrel_jax.visualization.overlays.mask_sheet", lambda panels, path, *_, **__: shown.extend(panels)
    )
    look = [finding.text for finding in examine(config, tmp_path / "run") if finding.look]
    assert re.search(r"37.png of \S+masks marks 9\d% of the pixels .* invert it alone", " ".join(look))
    assert [title for *_, title in shown][0] == "own/train, z = 37" and len(shown) == 4


@pytest.mark.parametrize(
    ("names", "fields", "said"),
    [
        (["mask_1.png", "mask_2.png"], {}, "2 masks .* numbered 1 to 2 and are taken for z = 1, 2 of the 8 slices"),
        (["0.png", "1.png"], {}, "numbered 0 to 1 and are taken for z = 0, 1 of .*data.labelled_slices=3,40,77"),
        (["mask_1.png", "mask_2.png"], {"labelled_slices": "1,5"}, ""),
        (["mask_1.png", "mask_5.png"], {}, ""),
        (["mask_1.png"], {}, ""),
        ([f"mask_{z}.png" for z in (1, 2, 3)], {}, ""),  # of 8: as likely the slices
    ],
)
def test_masks_that_may_only_be_counted(tissue, looks, tmp_path, names, fields, said):
    image, label = tissue
    folder = write_pngs(tmp_path / "masks", label[[1, 5, 6][: len(names)]], names)
    text = looks(image, label, label=folder, voxel_nm="30,10,10", **fields)
    assert ("or only a count?" in text) == bool(said) and re.search(said, text)


def test_a_training_warns_too_of_masks_that_are_counted_or_inverted(tissue, tmp_path, capsys):
    config = dualrel_jax.get_config("supervised:own,all")
    np.save(tmp_path / "image.npy", tissue[0])
    masks = (tissue[1][[1, 5]] > 0).astype(np.uint8)
    masks[1] = 1 - masks[1]
    folder = write_pngs(tmp_path / "masks", masks, ["mask_1.png", "mask_2.png"])
    config.data.update({"image": str(tmp_path / "image.npy"), "label": folder, "voxel_nm": "30,10,10"})
    config = config_lib.resolve(config)
    dataset = load_dataset(config.data)
    print_start(dataset, make_partition(dataset.train, config.data), config)
    printed = capsys.readouterr().out
    assert "look: The 2 masks of " in printed and "look: mask_2.png of " in printed


def test_blank_slices_around_the_only_labelled_one_break_nothing(tissue, looks):
    image, label = tissue
    image = np.where(np.isin(np.arange(8), (4, 6))[:, None, None], np.uint8(0), image)
    text = looks(image, label[[5]], labelled_slices="5", voxel_nm="30,10,10")
    assert "2 of 8 slices" in text and "labels" not in text
    assert "hold one grey value only" in looks(0 * image, label, voxel_nm="30,10,10")


def test_a_labelled_slice_without_an_image_is_named(tissue, looks):
    image, label = (np.tile(array, (5, 1, 1)) for array in tissue)
    drawn = [3, 9, 18, 30]  # of 40 slices, of which 24 are sampled
    image[9] = 90
    fields = {"labelled_slices": "3,9,18,30", "voxel_nm": "30,10,10"}
    wanted = r"z = 9 of \S+image.npy is labelled, but its image holds one grey value only: check that the labels"
    assert re.search(wanted, looks(image, label[drawn], **fields))
    image[9, -1, -1] = 91
    assert "labelled" not in looks(image, label[drawn], **fields)
    image[[3, 18]] = 0
    assert re.search(r"z = 3, 18 of \S+ are labelled, but their images hold", looks(image, label[drawn], **fields))
    image[[4, 5]] = 0
    assert "z = 3, 4, 5, 18 of" in looks(image, label, voxel_nm="30,10,10")
    many = np.where(np.arange(40)[:, None, None] < 9, 0, image)
    assert "z = 0, 1, 2, 3, 4, 5 and 4 more of" in looks(many, label, voxel_nm="30,10,10")


def test_a_blank_slice_kept_to_validate_on_is_named_too(tissue, looks):
    image, label = (np.tile(array, (5, 1, 1)) for array in tissue)
    image[38] = 7
    fields = {"validation_region": "32:40", "train_region": "0:28", "voxel_nm": "30,10,10"}
    assert "z = 38 of" in looks(image, label, **fields)


def test_labels_scaled_otherwise_than_said(tissue, looks):
    image, label = tissue
    with pytest.raises(InputError, match="no value above 127, which data.label_kind=grey"):
        looks(image, label, voxel_nm="8,8,8", label_kind="grey")
    with pytest.raises(InputError, match="marks every pixel .* data.label_kind"):
        looks(image, 40 + 200 * label, voxel_nm="8,8,8", label_kind="instances")


def test_the_whole_lucchi_and_vnc(tmp_path):
    if not REAL.is_dir():
        pytest.skip("no real data; set DUALREL_DATA")
    for name in ("lucchi", "vnc"):
        config = dualrel_jax.get_config(f"dualrel:{name},4")
        config.data.dir = str(REAL)
        assert [finding.text for finding in examine(config, tmp_path) if finding.look] == []
        assert (tmp_path / "pictures" / "doctor.png").stat().st_size > 10_000


def test_every_optional_package_is_named_with_its_use(monkeypatch):
    """The extras for devices and developers are not for a person who trains."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*doctor._EXTRAS} == {*extras} - {"gpu", "tpu", "perf", "dev"}
    needs = [f'{need}; extra == "{extra}"' for extra, each in extras.items() for need in each]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["numpy>=1.26", *needs])
    missing = ("imagecodecs", "zarr", "napari")
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [] if name in missing else [name])
    assert doctor._optional_packages().text == (
        "Optional packages installed: hdf5plugin, mrcfile, nibabel, pynrrd, onnx, onnxruntime, cryptography, "
        "dask-jobqueue, dask, distributed; absent: imagecodecs, zarr (extra formats: NIfTI, NRRD, MRC, compressed TIFF "
        "and more codecs); napari (extra napari: the napari plugin)."
    )
    missing = ()
    assert doctor._optional_packages().text.endswith("distributed; absent: none.")


def test_the_packages_of_this_machine_are_told_as_they_are():
    installed, absent = doctor._optional_packages().text.split("; absent: ")
    for module in ("imagecodecs", "hdf5plugin", "mrcfile", "nibabel", "onnx", "napari", "dask"):
        assert module in (installed if importlib.util.find_spec(module) else absent)


def test_a_stack_labelled_throughout_may_be_a_corrected_prediction(tissue, looks):
    image, label = (np.tile(array, (3, 1, 1)) for array in tissue)
    label = np.stack([np.roll(one, 4 * (z // 8), 0) for z, one in enumerate(label)])
    asked = "count as labelled: if only some were drawn or corrected by hand, name these"
    assert re.search(rf"24 of the 24 slices of \S+label.npy {asked}", looks(image, label, voxel_nm="30,10,10"))
    assert asked not in looks(image, label, voxel_nm="30,10,10", labelled_slices="3,12,20")
    assert asked not in looks(image[:16], label[:16], voxel_nm="30,10,10")
    label[20:] = 0
    assert asked not in looks(image, label, voxel_nm="30,10,10")


def test_what_is_told_and_what_training_refuses(volume_files, small_config, tmp_path, capsys):
    config = small_config()
    config.data.update({"voxel_nm": "30,8,8", "test_voxel_nm": "30,8,8"})
    text = " ".join(finding.text for finding in examine(config, tmp_path))
    for said in (
        "JAX",
        "Optional packages installed: ",
        "voxel 30 x 8 x 8 nm (from data.voxel_nm)",
        "6 steps of 8 crops",
        "0.26 x 0.26 µm",
        "z = 10, 11 are kept to validate on, z = 9 left out between them and the training (data.validation_region=none",
    ):
        assert said in text
    assert "3 slices train with their labels, 6 without; 2 labelled slices to validate" in text
    *printed, verdict = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d things? to look at before you train.*", verdict)
    assert len(printed) > 5 and all(line.startswith(("ok:  ", "look:")) for line in printed)
    config.data.labelled = "all"
    text = " ".join(finding.text for finding in examine(config, tmp_path))
    assert "9 labelled slices; all 9 also train without labels; 2 labelled slices to validate" in text
    config.train.crop_px = 64
    with pytest.raises(InputError, match="larger than the slices"):
        examine(config, tmp_path)
    config.data.image = str(tmp_path / "none.tif")
    with pytest.raises(InputError, match="does not exist"):
        examine(config, tmp_path)
