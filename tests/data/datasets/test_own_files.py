"""A person's own volume: files and masks as programs write them."""

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny import config, volume

from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError

MASK = volume(24)[1].astype(np.uint8)
OME = {"axes": "ZYX", **{f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (30, 8, 8), strict=True)}}
OME |= {f"PhysicalSize{axis}Unit": "nm" for axis in "ZYX"}
PLANES = {"photometric": "rgb", "planarconfig": "separate"}  # what tifffile chooses for 3 or 4 slices
FIJI = {"imagej": True, "resolution": (1 / 0.008, 1 / 0.008)}


def fiji(path, array):
    tifffile.imwrite(path, array, **FIJI, metadata={"axes": "ZYX", "spacing": 0.03, "unit": "um"})


def fiji_hyperstack(path, array):
    metadata = {"axes": "TZCYX", "spacing": 0.03, "unit": "um"}
    tifffile.imwrite(path, array[None, :, None], **FIJI, metadata=metadata)


def ome(path, array):
    tifffile.imwrite(path, array, ome=True, metadata=OME, compression="zlib")


def hdf5(name, attribute, sizes, trailing=()):
    def write(path, array):
        with h5py.File(path, "w") as file:
            made = file.create_dataset(name, data=array.reshape(*array.shape, *trailing), compression="gzip")
            made.attrs[attribute] = sizes

    return write


@pytest.mark.parametrize(
    "write, name",
    [
        (fiji, "volume.tif"),
        (fiji_hyperstack, "volume.tif"),
        (ome, "volume.ome.tif"),
        (hdf5("exported_data", "element_size_um", (0.03, 0.008, 0.008), (1,)), "ilastik.h5:exported_data"),
        (hdf5("volumes/raw", "resolution", (30.0, 8.0, 8.0)), "cremi.hdf"),
    ],
)
def test_voxel_sizes_of_files_reach_the_crops(tmp_path, write, name):
    image, mask = volume(6)
    write(tmp_path / name.split(":")[0], image)
    write(tmp_path / f"label_{name.split(':')[0]}", mask.astype(np.uint8) * 255)
    paths = {"image": str(tmp_path / name), "label": str(tmp_path / f"label_{name}")}
    part = load_dataset(config("own", "all", pixel_nm=16.0, **paths)).train[0]
    assert part.image.voxel_nm == pytest.approx((30, 8, 8))
    assert part.image_at(2).shape == part.label_at(2).shape == (20, 24)
    assert np.array_equal(part.image[2], image[2]) and np.array_equal(part.native_label_at(2), mask[2])


def test_thick_slices_stay_as_they_are(own):
    part = load_dataset(own(MASK, voxel_nm="30,8,8", pixel_nm=8.0, validation_region="none")).train[0]
    assert part.pixel_nm == (8.0, 8.0) and len(part.zs) == 24 and part.image_at(0).shape == (40, 48)


@pytest.mark.parametrize("dtype, largest", [("uint16", 60_000), ("uint32", 16_000_000), ("int32", 70_000)])
def test_instance_ids(own, dtype, largest):
    ids = np.where(MASK > 0, np.linspace(1, largest, 48).astype(dtype), 0).astype(dtype)
    ids[[3, 9]] = 0
    part = load_dataset(own(ids, label_kind="instances")).train[0]
    assert 3 not in part.labelled_zs and np.array_equal(part.native_label_at(8), MASK[8])
    part = load_dataset(own({f"ids_{z}.tif": ids[z] for z in (4, 8)}, label_kind="instances")).train[0]
    assert part.labelled_zs == (4, 8) and np.array_equal(part.native_label_at(8), MASK[8])


def grey(mask):
    return Image.fromarray(mask * np.uint8(255))


@pytest.mark.parametrize(
    "convert",
    [
        lambda mask: grey(mask).convert("1"),
        lambda mask: grey(mask).convert("RGB"),
        lambda mask: grey(mask).convert("RGBA"),
        lambda mask: grey(mask).convert("P"),
        lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535),
    ],
    ids=["1 bit", "RGB", "RGBA", "palette", "16 bit"],
)
def test_kinds_of_png_masks(own, tmp_path, convert):
    data = own({"m8.png": MASK[8]})
    convert(MASK[8]).save(tmp_path / "labels" / "m8.png")
    assert np.array_equal(load_dataset(data).train[0].native_label_at(8), MASK[8])


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0]  # black, red, green


def palette_png(path, indices, colours, **options):
    image = Image.fromarray(indices)
    image.putpalette(colours)
    image.save(path, **options)


@pytest.mark.parametrize("options", [{}, {"transparency": 0}], ids=["opaque", "transparent background"])
def test_indices_of_a_palette_of_colours_are_the_labels(own, tmp_path, options):
    data = own({"m8.png": MASK[8], "m9.png": MASK[9]}, ignore_value=2)
    partly = MASK[8].copy()
    partly[:4] = 2
    palette_png(tmp_path / "labels" / "m8.png", partly, VOC, **options)
    label = load_dataset(data).train[0].native_label_at(8)
    assert np.array_equal(label[4:], MASK[8][4:]) and (label[:4] == 255).all()
    with pytest.raises(InputError, match="m8.png: (is a colour image; expected grey|is transparent in places)"):
        open_volume(tmp_path / "labels" / "m8.png")  # as an image


def test_palettes_of_greys_are_applied_to_labels_in_whatever_order(own, tmp_path):
    data = own({"m8.png": MASK[8]})
    palette_png(tmp_path / "labels" / "m8.png", 1 - MASK[8], [255, 255, 255, 0, 0, 0])
    assert np.array_equal(load_dataset(data).train[0].native_label_at(8), MASK[8])
    classes = MASK[8].copy()
    classes[0, 0] = 2
    palette_png(tmp_path / "labels" / "m8.png", classes, [0, 0, 0, 255, 255, 255, 0, 0, 0])
    with pytest.raises(InputError, match="m8.png: has a palette that shows several of its labels in one grey"):
        load_dataset(data)


def test_masks_of_1_bit_and_in_colour_in_tiff(own, tmp_path):
    assert np.array_equal(load_dataset(own(MASK > 0)).train[0].native_label_at(8), MASK[8])
    red = MASK[8][..., None] * np.uint8([255, 0, 0])
    data = own({"m8.png": MASK[8]})
    Image.fromarray(red).save(tmp_path / "labels" / "m8.png")
    with pytest.raises(InputError, match="m8.png: is a colour image.*convert it"):
        load_dataset(data)
    tifffile.imwrite(data.label + ".tif", np.repeat(255 * MASK[..., None], 3, axis=-1), photometric="rgb")
    data.label += ".tif"
    assert np.array_equal(load_dataset(data).train[0].native_label_at(8), MASK[8])


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize(
    "options",
    [PLANES, {**PLANES, "compression": "zlib"}, {"imagej": True}],
    ids=["plain", "zlib", "ImageJ"],
)
def test_three_or_four_slices_that_tifffile_takes_for_colours(own, count, options):
    zs = [5, 12, 20, 23][:count]
    data = own(MASK)
    tifffile.imwrite(data.label, MASK[zs], **options)
    data.labelled_slices = ",".join(map(str, zs))
    part = load_dataset(data).train[0]
    assert part.labelled_zs == tuple(zs)
    assert all(np.array_equal(part.native_label_at(z), MASK[z]) for z in zs)
    data.labelled_slices = "5,12"
    with pytest.raises(InputError, match="tifffile saved them as colours: write them with photometric='minisblack'"):
        load_dataset(data)


def test_a_whole_stack_of_three_slices_that_tifffile_takes_for_colours(own):
    data = own(MASK[:3], slices=3)
    tifffile.imwrite(data.label, MASK[:3], **PLANES)
    part = load_dataset(data).train[0]
    assert part.labelled_zs == (0, 1, 2) and np.array_equal(part.native_label_at(2), MASK[2])


@pytest.mark.parametrize("ground", ["white", "black", "red"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_the_opaque_pixels_of_one_colour_on_a_transparent_ground_are_the_mask(own, tmp_path, capsys, mode, ground):
    data = own({"m8.png": MASK[8], "m9.png": MASK[9]})
    for name, mask in (("m8", MASK[8]), ("m9", 0 * MASK[9])):
        image = Image.new(mode, (48, 40), "white" if mode == "LA" else ground)
        image.putalpha(grey(mask))
        image.save(tmp_path / "labels" / f"{name}.png")
    part = load_dataset(data).train[0]
    assert np.array_equal(part.native_label_at(8), MASK[8]) and not part.native_label_at(9).any()
    assert "its opaque pixels as the mask" in capsys.readouterr().out


@pytest.mark.parametrize("soft", [True, False], ids=["soft edge", "two colours"])
def test_other_transparent_masks_are_refused(own, tmp_path, soft):
    data = own({"m8.png": MASK[8]})
    image = np.repeat(255 * MASK[8][..., None], 4, -1)
    y, x = np.argwhere(MASK[8])[0]
    image[y, x] = (255, 255, 255, 90) if soft else (255, 0, 0, 255)
    Image.fromarray(image).save(tmp_path / "labels" / "m8.png")
    with pytest.raises(InputError, match="m8.png: is transparent in places.*of labels save the mask alone, as 8-bit"):
        load_dataset(data)


def test_masks_blurred_by_scaling_and_with_nan(own):
    soft = np.where(MASK > 0, 255, 0).astype(np.uint8)
    soft[:, 0, :5] = 0, 60, 120, 200, 250
    with pytest.raises(InputError, match="set data.label_kind=grey if .*, or data.label_kind=instances if"):
        load_dataset(own(soft))
    assert load_dataset(own(soft, label_kind="grey")).train[0].native_label_at(3)[0, :5].tolist() == [0, 0, 0, 1, 1]
    holes = MASK.astype(np.float32)
    holes[:, :4] = np.nan
    with pytest.raises(InputError, match="NaN"):
        load_dataset(own(holes))
