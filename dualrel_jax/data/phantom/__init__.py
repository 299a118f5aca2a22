"""The built-in data set: volumes of EM-like tissue with exact masks of their mitochondria, made from a seed."""

import contextlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import scipy
from scipy import ndimage

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.phantom.section import Artist
from dualrel_jax.data.phantom.tissue import Tissue, grow
from dualrel_jax.errors import InputError
from dualrel_jax.utils.atomic import replacing
from dualrel_jax.utils.cache import cache_folder

SECTIONS = {"train": 148, "test": 24}  # of train: 0..127 for training, 132..147 for validation
SHAPE = (256, 320)


@dataclass(frozen=True)
class Microscope:
    """How absorbance becomes 8-bit grey. Noise is in parts of the whole range of grey."""

    voxel_nm: tuple[float, float, float] = (30.0, 10.0, 10.0)
    white: float = 206.0  # grey of empty resin
    contrast: float = 168.0  # grey lost at an absorbance of 1
    blur_px: float = 0.75  # sigma of the point spread function
    defocus: float = 0.20  # standard deviation of its logarithm from section to section
    shot: float = 0.045  # standard deviation of counting noise at full brightness
    spread: float = 0.020  # standard deviation of noise shared by neighbouring pixels
    illumination: float = 0.06  # standard deviation of slow unevenness, relative
    jitter: float = 0.030  # standard deviation of brightness and of contrast from section to section


# The second is another laboratory's: thicker sections, smaller pixels, strong membranes, pale mitochondria, faint
# cristae, more noise.
SPECIMENS = {
    "phantom": (Tissue(), Microscope()),
    "phantom_b": (
        Tissue(
            mito_radius_nm=(75.0, 170.0),
            matrix=(0.36, 0.66),
            crista_contrast=(0.08, 0.20),
            crista_spacing_nm=(42.0, 65.0),
            axon_radius_nm=260.0,
            sheath_nm=105.0,
            cell_nm=(400.0, 135.0),
            cytoplasm=(0.06, 0.22),
            dark_cytoplasm=(0.32, 0.44),
            granularity=0.13,
            membrane=0.88,
        ),
        Microscope(
            voxel_nm=(50.0, 8.0, 8.0),
            white=186.0,
            contrast=172.0,
            blur_px=0.9,
            shot=0.065,
            spread=0.030,
            illumination=0.10,
            jitter=0.040,
        ),
    ),
}


def phantom(name: str, part: str, seed: int = 0) -> tuple[Volume, Volume]:
    """Image (uint8) and label (uint8, 0 or 1) of `name` 'phantom' or 'phantom_b' and `part` 'train' or 'test'.

    Both are `z y x`, in memory, and the same for the same arguments; the last few are kept, and all of them between
    processes, in the user's cache folder.
    Raises InputError for another name or part.
    """
    if name not in SPECIMENS:
        raise InputError(f"data.name: got {name!r}, expected one of {', '.join(SPECIMENS)}; choose one of these")
    if part not in SECTIONS:
        raise InputError(f"part of {name}: got {part!r}, expected one of {', '.join(SECTIONS)}; choose one of these")
    voxel_nm = SPECIMENS[name][1].voxel_nm
    image, label = _arrays(name, part, seed)
    return tuple(
        Volume.from_array(array, voxel_nm, f"{name} {part} {kind}")
        for array, kind in ((image, "image"), (label, "label"))
    )


@lru_cache(maxsize=4)
def _arrays(name: str, part: str, seed: int) -> np.ndarray:
    """Image and label, `2 z y x`: those an earlier process left, or drawn and left to the next."""
    path = cache_folder() / "phantom" / f"{name}_{part}_{seed}_{_code():08x}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or damaged
        return np.load(path)
    arrays = _draw(name, part, seed)
    with contextlib.suppress(OSError):  # a full disk, or a home that cannot be written to
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            np.save(file, arrays)
    return arrays


def _draw(name: str, part: str, seed: int) -> np.ndarray:
    section = _sections(name, part, seed)
    return np.stack([section(z) for z in range(SECTIONS[part])], axis=1)


def _code() -> int:
    """A number for what the sections depend on beside their arguments."""
    sources = (file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    return zlib.crc32(b"".join(sources) + f"{np.__version__} {scipy.__version__}".encode())


def _sections(name: str, part: str, seed: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """A function z -> (image, label) of section z, `y x`."""
    tissue, microscope = SPECIMENS[name]
    stream = partial(_stream, f"{name} {part}", seed)
    block = grow(tissue, (SECTIONS[part], *SHAPE), microscope.voxel_nm, stream)
    artist = Artist(block, SHAPE, microscope.voxel_nm[1:])
    light = _illumination(SECTIONS[part], microscope.illumination, stream("light"))

    def section(z: int) -> tuple[np.ndarray, np.ndarray]:
        ink, label = artist.draw(z, stream(f"grain {z}"))
        return _expose(ink, light(z), microscope, stream(f"noise {z}")), label

    return section


def _stream(volume: str, seed: int, purpose: str) -> np.random.Generator:
    """A generator for each purpose: nothing depends on the order in which things are drawn."""
    entropy = [seed, zlib.crc32(volume.encode()), zlib.crc32(purpose.encode())]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def _illumination(sections: int, strength: float, rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """A function z -> brightness `y x` around 1: planes and bowls that drift from section to section."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE)
    y = y[:, None]
    shapes = np.stack(np.broadcast_arrays(y, x, y * x, y * y + x * x - 0.7))
    drift = ndimage.gaussian_filter1d(rng.standard_normal((sections + 60, 4)), 10, axis=0)[30:-30]
    weights = strength * (0.6 * rng.standard_normal(4) + 3 * drift)
    return lambda z: 1 + np.tensordot(weights[z].astype(np.float32), shapes, 1)


def _expose(ink: np.ndarray, light: np.ndarray, microscope: Microscope, rng: np.random.Generator) -> np.ndarray:
    """Absorbance `y x` to uint8 grey `y x`."""
    gain, offset, focus = rng.standard_normal(3) * (microscope.jitter, microscope.jitter, microscope.defocus)
    ink = ndimage.gaussian_filter(ink, microscope.blur_px * np.exp(focus))
    grey = (microscope.white - microscope.contrast * ink) / 255
    grey = ((1 + gain) * grey + offset) * light
    counts, spread = rng.standard_normal((2, *ink.shape), dtype=np.float32)
    grey += microscope.shot * np.sqrt(np.maximum(grey, 0.05)) * counts
    grey += microscope.spread * 4.25 * ndimage.gaussian_filter(spread, 1.2)
    return np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8)
