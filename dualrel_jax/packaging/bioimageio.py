"""A BioImage.IO package: the U-Net as ONNX with an rdf.yaml, a test, a cover and a card, as one zip."""

import datetime
import hashlib
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import yaml
from ml_collections import ConfigDict
from PIL import Image

from dualrel_jax.config.rules import side_multiple
from dualrel_jax.constants import METHOD_TITLES
from dualrel_jax.data.io.volume import RANGE_QUANTILES, to_uint8
from dualrel_jax.data.phantom import phantom
from dualrel_jax.errors import InputError
from dualrel_jax.inference.run import Run
from dualrel_jax.inference.slice_predictor import chosen_output
from dualrel_jax.methods import create_method
from dualrel_jax.packaging.model_card import model_card, pixel_size
from dualrel_jax.packaging.onnx_graph import OPSET, unet_graph
from dualrel_jax.utils.atomic import replacing
from dualrel_jax.utils.libraries import load_library
from dualrel_jax.visualization.canvas import PREDICTED

_PERCENTILES = tuple(100 * quantile for quantile in RANGE_QUANTILES)
_FORMAT = "0.5.3"  # of rdf.yaml; later ones read it
TOLERANCE = 1e-4  # largest difference of a probability between JAX and ONNX
_EPSILON = 1e-6  # of scale_range
_TEST_PX = 256
_HALO_PX = 32
_UNET = "U-Net: Convolutional Networks for Biomedical Image Segmentation (the architecture)"
_UNET_DOI = "10.1007/978-3-319-24574-4_28"
_USE = """This is the U-Net of the run as ONNX, for BioImage.IO and onnxruntime. It predicts which pixels of an electron
microscopy slice are mitochondria. It was trained and scored on the data below only. On other tissue or microscopes,
check its masks by eye before you measure anything with them.

- Input: slices `b c y x`, sides multiples of {multiple}. The percentiles {low:g} and {high:g} of each slice become 0
  and 1 (`scale_range` in rdf.yaml); dualrel_jax takes those of the whole volume.
- Pixel size: {pixel}. Resample slices that have another pixel size.
- Output: `b c y x`, the probability of mitochondrion; a threshold of 0.5 makes a mask.
- The test image is a part of {source}."""


class _Sample(NamedTuple):
    image: np.ndarray  # y x uint8
    source: str


def write_package(run: Run, path: Path) -> Path:
    """Writes the package of a run to `path`, a .zip; -> `path`.

    Its output is that of the U-Net alone (prediction head "head"), in float32. The test output is computed by JAX, and
    ONNX is compared with it before anything is written.

    Raises:
        InputError: onnx or onnxruntime is missing.
    """
    need, packages = "config.export.to=bioimageio", "onnx onnxruntime"
    onnx, runtime = (load_library(name, packages, need) for name in packages.split())
    side = side_multiple(run.config.model)
    sample = _sample(run, -(-_TEST_PX // side) * side)
    expected = _probability(run, _scaled(sample.image))
    proto = unet_graph(_unet(run), run.config.model)
    session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    actual = session.run(None, {"image": _scaled(sample.image)[None, None]})[0][0, 0]
    difference = float(np.abs(actual - expected).max())
    if difference > TOLERANCE:
        raise RuntimeError(f"the ONNX graph differs from the network by {difference:.2g}; expected {TOLERANCE:g}")
    with tempfile.TemporaryDirectory() as name, replacing(path) as part:
        folder = Path(name)
        onnx.save(proto, folder / "model.onnx")
        np.save(folder / "test_input.npy", sample.image[None, None].astype(np.float32))
        np.save(folder / "test_output.npy", expected[None, None])
        draw_cover(sample.image, expected > 0.5).save(folder / "cover.png")
        low, high = _PERCENTILES
        use = _USE.format(multiple=side, low=low, high=high, pixel=pixel_size(run), source=sample.source)
        (folder / "README.md").write_text(model_card(run, use), encoding="utf-8")
        text = yaml.safe_dump(_description(run, folder), sort_keys=False, allow_unicode=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as package:
            package.writestr("rdf.yaml", text)
            for file in sorted(folder.iterdir()):
                package.write(file, file.name)
    print(f"ONNX and JAX differ by {difference:.1g} at most. The test image and the cover show a part of", end=" ")
    print(f"{sample.source}: make sure that it may be published.")
    return path


def _sample(run: Run, side: int) -> _Sample:
    """The part with most mitochondrion of a labelled training slice, or of the phantom where the volume is gone."""
    try:
        parts = [part for part in run.dataset.train if part.labelled_zs]
        part, z = parts[0], parts[0].labelled_zs[len(parts[0].labelled_zs) // 2]
        image, label, source = part.image_at(z), part.label_at(z) == 1, f"{Path(part.image.path).name}, slice {z}"
    except (InputError, IndexError):
        image, label = (volume[12] for volume in phantom("phantom", "test"))
        source, label = "the phantom, tissue that dualrel_jax draws", label > 0
    pads = [(0, max(side - length, 0)) for length in image.shape]
    image, label = np.pad(image, pads, "reflect"), np.pad(label, pads)
    sums = np.pad(label.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    y, x = np.unravel_index(np.argmax(inside), inside.shape)
    return _Sample(np.ascontiguousarray(image[y : y + side, x : x + side]), source)


def _scaled(image: np.ndarray) -> np.ndarray:
    """What `scale_range` makes of a slice: float32."""
    low, high = np.percentile(image, _PERCENTILES)
    return ((image - low) / (high - low + _EPSILON)).astype(np.float32)


def _probability(run: Run, scaled: np.ndarray) -> np.ndarray:
    """That of the U-Net, y x, computed by JAX in float32."""
    config = ConfigDict(run.config.copy_and_resolve_references().to_dict())
    config.model.dtype, config.predict.prediction_head = "float32", "head"
    grey = to_uint8(scaled, (0.0, 1.0))
    output = jax.jit(lambda variables, image: chosen_output(create_method(config), config, variables, image))
    return np.asarray(output(run.variables, grey[None]))[0]


def _unet(run: Run) -> dict[str, Any]:
    """The collections of the U-Net that segments, on the host."""
    network = jax.device_get(run.variables[run.method.segmenters[0]])
    return {name: parts.get("unet", parts) for name, parts in network.items()}


def draw_cover(image: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The slice, and beside it the slice under its mask: twice as wide as high."""
    colour = np.array([int(PREDICTED[i : i + 2], 16) for i in (1, 3, 5)])
    plain = np.repeat(image[..., None], 3, axis=-1).astype(np.float32)
    under = np.where(mask[..., None], 0.55 * plain + 0.45 * colour, plain)
    return Image.fromarray(np.concatenate([plain, under], axis=1).round().astype(np.uint8))


def _description(run: Run, folder: Path) -> dict[str, Any]:
    """The content of rdf.yaml."""
    title = METHOD_TITLES.get(run.config.method.name, run.config.method.name)
    name = re.sub(r"[^\w() -]", "", f"Mitochondria in electron microscopy by {title}")
    export = run.config.export
    fields = {
        "format_version": _FORMAT,
        "type": "model",
        "name": re.sub(r" +", " ", name)[:128],
        "description": "Probability of mitochondrion in slices of electron microscopy volumes, by a U-Net.",
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "authors": [{"name": text.strip()} for text in export.authors.split(",") if text.strip()],
        "cite": [{"text": _UNET, "doi": _UNET_DOI}],
        "documentation": "README.md",
        "covers": ["cover.png"],
        "tags": ["mitochondria", "electron-microscopy", "semantic-segmentation", "unet", "2d", "dualrel_jax"],
        "inputs": [_input(run, folder)],
        "outputs": [_output(run, folder)],
        "weights": {"onnx": {**_file(folder, "model.onnx"), "opset_version": OPSET}},
    }
    return fields | ({"license": export.license} if export.license else {})


def _input(run: Run, folder: Path) -> dict[str, Any]:
    multiple = side_multiple(run.config.model)
    size = {"min": -(-4 * _HALO_PX // multiple) * multiple, "step": multiple}
    low, high = _PERCENTILES
    scale = {"axes": ["channel", "y", "x"], "min_percentile": low, "max_percentile": high, "eps": _EPSILON}
    return {
        "id": "image",
        "description": "Grey values of a slice, as the microscope gives them.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": ["intensity"]},
            *({"type": "space", "id": axis, "size": dict(size), **_pixel(run, axis)} for axis in "yx"),
        ],
        "test_tensor": _file(folder, "test_input.npy"),
        "data": {"type": "float32"},
        "preprocessing": [{"id": "scale_range", "kwargs": scale}],
    }


def _output(run: Run, folder: Path) -> dict[str, Any]:
    sizes = {axis: {"tensor_id": "image", "axis_id": axis} for axis in "yx"}
    return {
        "id": "probability",
        "description": "Probability of mitochondrion.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": ["mitochondrion"]},
            *(
                {"type": "space", "id": axis, "size": sizes[axis], "halo": _HALO_PX, **_pixel(run, axis)}
                for axis in "yx"
            ),
        ],
        "test_tensor": _file(folder, "test_output.npy"),
        "data": {"type": "float32", "range": [0.0, 1.0]},
    }


def _pixel(run: Run, axis: str) -> dict[str, Any]:
    return {"unit": "nanometer", "scale": run.pixel_nm["yx".index(axis)]} if run.pixel_nm else {}


def _file(folder: Path, name: str) -> dict[str, str]:
    return {"source": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
