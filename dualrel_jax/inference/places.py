"""Places of a predicted volume for a person to classify: drawn by chance among pixels of each level of probability."""

import contextlib
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.io.points import table_of_places
from dualrel_jax.data.io.remote import RemotePath, absolute_path, is_remote
from dualrel_jax.data.io.volume import Volume, intensity_range, open_volume, to_uint8
from dualrel_jax.errors import InputError
from dualrel_jax.inference.prediction_record import EDGE
from dualrel_jax.inference.windows import parse_region
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.utils.text import quoted
from dualrel_jax.visualization import overlays

SLICES = 6  # that the places lie in: few to look at, and to predict again
# Between them places are drawn equally often; of random places nearly all would lie in the first level, and be
# background. None in that one would leave open how much it hides: 2 points of JAC less, from Lucchi to VNC.
LEVELS = (0.0, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.01)
# Fields of the record of a prediction: what its places are of.
_OF = {"volume": "volume", "config.predict.region": "region", "model": "model"}
# How that was made, where it was not by the run's config: the next prediction is made the same way.
_MADE_BY = ("checkpoint", "domain", "intensity_range", "level", "planes", "prediction_head", "test_time_augmentation")
_MADE_BY += ("weights", "z_smoothing_nm")
_SHOWN_NM, _UNKNOWN_NM = 1000.0, 8.0  # side of a picture around a place, and the pixel size where that is unknown


def write_places(workdir: Path, config: ConfigDict) -> dict[str, Path]:
    """Draws `config.suggest.points` places of the last prediction; writes points.csv and a picture of each place.

    points.json beside them has what they are of, for `explain_other_places`.

    Returns:
        table and picture -> path.

    Raises:
        InputError: there is no probability volume, it is enlarged, or the same everywhere.
    """
    path = config.suggest.input or last_prediction(workdir)
    if is_remote(path):
        raise InputError(
            f"{path} lies in a store; expected a prediction on this machine: predict a --region of it here."
        )
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"{path} does not exist; segment a volume first (dualrel predict {quoted(workdir)} VOLUME), or name its "
            "probability by --input."
        )
    probability = open_volume(path, verbose=False)
    record = path.with_name(f"{path.stem.removesuffix('_probability')}.json")
    fields = {"volume": str, "config.predict.region": str}
    made_from = read_json(record, fields, "give the probability volume that dualrel predict wrote")
    image = open_volume(made_from["volume"], probability.voxel_nm, verbose=False)
    if made_from.get("config.predict.full_size") and image.level is not None:
        raise InputError(
            f"{path} was enlarged from a coarser level of {made_from['volume']} (--full-size), whose voxels points "
            "cannot name; predict without it, and draw points of that."
        )
    corner = [part.start for part in parse_region(made_from["config.predict.region"], image.shape)]
    places = draw_places(probability, config.suggest.points, config.seed) + corner
    folder = workdir / "points"
    paths = {"table": folder / "points.csv", "picture": folder / "points.png"}
    write_text(paths["table"], table_of_places(places, "probability"))
    of = {key: made_from.get(key) for key in (*_OF, *map("config.predict.{}".format, _MADE_BY))}
    write_text(folder / "points.json", json.dumps(of, indent=2) + "\n")
    draw_pictures(image, places, paths["picture"])
    print(
        f"{len(places)} places of {image.path}, each in a picture. Write 1 (mitochondrion) or 0 (background) into the "
        "column class of the table; leave it empty where you are not sure. Then:"
    )
    print(f"  {_next_command(workdir, config, probability, made_from, paths['table'])}")
    for name, written in paths.items():
        print(f"  {name}: {written}")
    return paths


def explain_other_places(points: Path, job: Mapping[str, object]) -> str:
    """A sentence where `write_places` drew the table `points` from another volume, region or model; else empty.

    Args:
        job: the prediction that uses it, as `describe_job` gives it.
    """
    path = points.with_suffix(".json")
    if points.name != "points.csv" or not path.is_file():
        return ""
    record = read_json(path, dict.fromkeys(_OF, (str, type(None))), "remove it")
    different = [f"{name} {record[key] or 'whole'}" for key, name in _OF.items() if record[key] != job[key]]
    for name in _MADE_BY:
        value = record.get(key := f"config.predict.{name}")
        different += [f"predict.{name}={value}"] if value is not None and value != job.get(key, value) else []
    if not different:
        return ""
    return (
        f"{points} was drawn from another prediction ({', '.join(different)}), so that the threshold may not suit this "
        f"one; draw places of this one: dualrel suggest {quoted(points.parent.parent)} --points N"
    )


def _next_command(workdir: Path, config: ConfigDict, probability: Volume, record: dict, points: Path) -> str:
    """The prediction of `probability`, which `record` describes, with a threshold from the points."""
    path = Path(probability.path)
    words = ["dualrel", "predict", str(workdir), record["volume"], "--points", str(points)]
    words += ["-o", str(path.with_name(path.name.replace("_probability", "")))]
    if probability.voxel_nm:
        words += ["--voxel-nm", ",".join("?" if math.isnan(nm) else f"{nm:g}" for nm in probability.voxel_nm)]
    for name in _MADE_BY:
        value = record.get(f"config.predict.{name}", config.predict[name])
        words += ["--set", f"predict.{name}={value}"] if value != config.predict[name] else []
    words += ["--edge-nm", f"{edge:g}"] if (edge := record.get(EDGE, 0.0)) else []
    words += ["--region", region] if (region := record["config.predict.region"]) else []
    return shlex.join(words)


def note_last_prediction(workdir: Path, probability: Path | RemotePath | None) -> None:
    """Keeps where `predict` wrote its probability volume, for `last_prediction`; None: it was left out."""
    place = None if probability is None else absolute_path(str(probability))
    if place and not is_remote(place) and Path(place).is_relative_to(workdir.resolve()):
        place = str(Path(place).relative_to(workdir.resolve()))  # a run may be moved
    with contextlib.suppress(OSError):  # a shared run may be read-only
        (workdir / "prediction").mkdir(exist_ok=True)
        note = {"probability": place, "run": str(workdir.resolve())}
        write_text(workdir / "prediction" / "last.json", json.dumps(note) + "\n")


def last_prediction(workdir: Path) -> Path | str:
    """The probability volume of the last prediction of the run; InputError where that left it out.

    Of a run that was copied or moved since, the one inside it, if there is one.
    """
    paths = [workdir / "prediction" / f"mask_probability{suffix}" for suffix in (".tif", ".zarr")]
    inside = max((path for path in paths if path.exists()), key=lambda path: path.stat().st_mtime, default=paths[0])
    note = workdir / "prediction" / "last.json"
    if note.exists():
        content = read_json(note, {"probability": (str, type(None))}, "predict again")
        place, moved = content["probability"], content.get("run", str(workdir.resolve())) != str(workdir.resolve())
        if place is None:
            raise InputError(
                f"The last prediction of {workdir} left out its probability (predict.probability=False); predict again "
                "with it, or name a probability volume."
            )
        if moved and inside.exists() and (is_remote(place) or Path(place).is_absolute()):
            print(
                f"{workdir} was copied or moved since its last prediction, {place}; {inside}, inside it, is read "
                "instead: name the other to read that."
            )
            return inside
        return place if is_remote(place) else workdir / place
    return inside


def draw_places(probability: Volume, count: int, seed: int) -> np.ndarray:
    """`count` voxels (z, y, x), n 3, of a probability volume (uint8, or 0 to 1), equally many of each of LEVELS."""
    rng = np.random.default_rng(seed)
    zs = evenly_spaced(range(len(probability)), SLICES)
    slices = np.stack([probability[z] for z in zs])
    level = np.digitize(slices / 255 if slices.dtype == np.uint8 else slices, LEVELS) - 1
    pools = [np.argwhere(level == number) for number in range(len(LEVELS) - 1)]
    pools = [rng.permutation(pool) for pool in pools if len(pool)]
    if level.max() == 0:
        raise InputError(
            f"{probability.path} has no pixel whose probability is above {LEVELS[1]}; expected some that may be "
            "mitochondrion: label a slice, and train."
        )
    places = [
        pools[i % len(pools)][i // len(pools)] for i in range(count) if i // len(pools) < len(pools[i % len(pools)])
    ]
    return np.array(sorted((zs[i], y, x) for i, y, x in places))


def draw_pictures(image: Volume, places: np.ndarray, path: Path) -> Path:
    """Each place in the middle of a picture, in the order of the table, with a small ring around it."""
    pixel_nm = min(image.voxel_nm[1:]) if image.voxel_nm else _UNKNOWN_NM
    half = max(int(_SHOWN_NM / pixel_nm / 2), 16)
    limits, panels = intensity_range(image), []
    offsets = np.mgrid[-half : half + 1, -half : half + 1]
    ring = (offsets**2).sum(axis=0) <= (half / 16) ** 2
    for number, (z, y, x) in enumerate(places, start=1):
        rows, columns = (np.arange(at - half, at + half + 1) for at in (y, x))
        inside = slice(max(rows[0], 0), rows[-1] + 1), slice(max(columns[0], 0), columns[-1] + 1)
        seen = to_uint8(image[int(z), *inside], limits)
        margin = [
            (int((line < 0).sum()), int((line >= size).sum()))
            for line, size in zip((rows, columns), image.shape[1:], strict=True)
        ]
        panels.append((np.pad(seen, margin), ring, None, f"line {number + 1}: z {z}, y {y}, x {x}"))
    return overlays.mask_sheet(panels, path, image.voxel_nm and image.voxel_nm[1:], meaning="place to classify")
