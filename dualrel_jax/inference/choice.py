"""The prediction head, the threshold and the planes of a volume: one rule for every command and table.

| the volume | prediction head | threshold |
| --- | --- | --- |
| like one whose labels the model learned from | main | calibrated beside the labelled slices |
| another microscope or tissue | for other volumes | LENIENT; of single slices UNCALIBRATED |

Of another volume no label says how much to expect. LENIENT finds more of it, and masks lose their unsure parts, which
single slices keep. Planes along all three axes are segmented where `orthogonal_planes.pays` says so.

`config.predict.domain` decides in place of `is_known`; `prediction_head`, `threshold`, `foreground_fraction` and
`planes` set the rest.
"""

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

from dualrel_jax.data.datasets.appearance import Appearance, appearance
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.fingerprint import checksum
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference import orthogonal_planes
from dualrel_jax.inference import threshold as threshold_lib
from dualrel_jax.inference.run import COPY_RUN, Run
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.inference.threshold import UNCALIBRATED
from dualrel_jax.inference.unsure_parts import NONE, margin_of
from dualrel_jax.inference.z_smoothing import knows_z
from dualrel_jax.training.workdir import path_of_training
from dualrel_jax.utils.jsonl import read_json
from dualrel_jax.utils.ranges import evenly_spaced

LENIENT = 0.4


@dataclasses.dataclass(frozen=True)
class Choice:
    """How volumes are segmented.

    Attributes:
        predictor: of the prediction head `prediction_head`.
        threshold: probability above which a pixel is mitochondrion; None where `config.predict.foreground_fraction`
            or `points` lead to one, which only the volume itself tells.
        explanation: a sentence, with the flags that choose otherwise.
        planes: xy or xyz, of `config.predict.planes`.
        unsure_margin: below the mean probability of the whole mask, at which parts of it are left out.
    """

    prediction_head: str
    predictor: Predictor
    threshold: float | None
    explanation: str
    planes: str = "xy"
    unsure_margin: float = NONE


def choose(
    run: Run,
    volumes: Sequence[Volume],
    smoothing_nm: float = 0.0,
    *,
    whole_masks: bool = False,
    all_planes: bool = False,
) -> Choice:
    """The head, the threshold and the planes for `volumes`, which are segmented alike.

    Args:
        smoothing_nm: standard deviation of the average along z that the threshold is for; 0: single slices.
        whole_masks: the masks lose their unsure parts, as `config.predict.unsure_margin` says.
        all_planes: whether `config.predict.planes=auto` may choose xyz, which takes time.
    """
    settings, name = run.config.predict, volumes[0].path
    known, reason = is_known(run, volumes)
    head = settings.prediction_head
    if head == "default" and not known:
        head = run.method.prediction_head_elsewhere
    if settings.points:
        value, how = None, f"the threshold follows from the points of {settings.points}"
    elif settings.foreground_fraction:
        value, how = None, "the threshold follows from config.predict.foreground_fraction"
    elif settings.threshold:
        value, how = settings.threshold, f"the threshold is config.predict.threshold, {settings.threshold:g}"
    elif known:
        value = run.calibrated_threshold(head, smoothing_nm if all(map(knows_z, volumes)) else 0.0)
        how = f"the threshold is {value:.2f}{'' if value == UNCALIBRATED else ', that of the training'}"
    else:
        value = LENIENT if whole_masks and settings.unsure_margin < NONE else UNCALIBRATED
        how = f"the threshold is {value:g}"
    planes = settings.planes
    if planes == "auto":
        pay = all_planes and all(orthogonal_planes.pays(volume, known) for volume in volumes)
        planes = "xyz" if pay else "xy"
    shown = run.method.main_head if head == "default" else head
    kind = "as a volume of the training" if known else "as a volume of another kind"
    flags = f"--config.predict.domain={'other' if known else 'training'} chooses otherwise"
    explanation = (
        f"{name} is segmented {kind}: {reason}. The prediction head is {shown}, {how}, "
        f"the planes are {planes}. {flags}; so do --config.predict.prediction_head, --config.predict.threshold, "
        "--config.predict.foreground_fraction and --config.predict.planes."
    )
    return Choice(head, run.predictor_of(head), value, explanation, planes, margin_of(settings, known, planes))


def choose_for_parts(run: Run, parts: Sequence[Part]) -> Choice:
    """`choose` for labelled parts; their slices lead to the threshold of `config.predict.foreground_fraction`.

    Raises:
        InputError: `config.predict.points` are set, which are of another volume.
    """
    if run.config.predict.points:
        raise InputError(
            f"config.predict.points is {run.config.predict.points}; expected none here: points lead to the threshold "
            "of the volume that predict segments; give the threshold that it prints as config.predict.threshold."
        )
    choice = choose(run, [part.image for part in parts])
    if fraction := run.config.predict.foreground_fraction:
        slices = evenly_spaced([(part, z) for part in parts for z in part.zs], threshold_lib.SAMPLE)
        sample = choice.predictor.each(run.variables, (part.image_at(z) for part, z in slices))
        choice = dataclasses.replace(choice, threshold=threshold_lib.of_fraction(sample, fraction))
    return choice


def is_known(run: Run, volumes: Sequence[Volume]) -> tuple[bool, str]:
    """Whether every one of `volumes` is, or looks like, one whose labels the run learned from; and why, in words.

    Of a run that recorded no such volume and whose files are gone nothing speaks against it.
    """
    domain = run.config.predict.domain
    if domain != "auto":
        return domain == "training", f"config.predict.domain is {domain}"
    learned = _learned_from(run)
    if not learned:
        return True, "what the training's volumes looked like is not recorded"
    others = [volume for volume in volumes if not _at_path_of(volume, learned) or is_replaced(run, volume)]
    if not others:
        return True, "its labels were learned"
    replaced = any(_at_path_of(volume, learned) for volume in others)
    before = "the file at this path is not that of the training, and " if replaced else ""
    for volume in others:
        finest = appearance(volume, run.pixel_nm)
        if all(map(finest.is_inverse_of, learned)):
            its, theirs = ("bright", "dark") if finest.dark_lines < 0 else ("dark", "bright")
            return False, (
                f"{before}it seems inverted against the volumes of the training (its thin lines, the membranes, are "
                f"{its}, theirs {theirs}); invert it (255 - value; Fiji: Edit > Invert) and predict again, unless it "
                "is meant to be so"
            )
        seen = dataclasses.replace(finest, voxel_nm=volume.voxel_nm)  # of a pyramid, the level that is read
        differences = [finest.difference(known) and seen.difference(known) for known in learned]
        if all(differences):
            return False, before + differences[0]
    compared = "grey values and fine detail are like those of a volume whose labels were learned"
    if any(volume.voxel_nm is None for volume in volumes):
        return True, f"{before}its voxel size is unknown, its {compared}"
    return True, f"{before}its voxel size, {compared}"


def is_replaced(run: Run, volume: Volume) -> bool:
    """Whether the file of `volume` lies where a labelled volume of the training lay, and is another.

    The labelled slices decide, by their checksums in run.json; without these, or without the labels, its looks.
    """
    here = _at_path_of(volume, _learned_from(run))
    if not here:
        return False
    views = [volume]
    with contextlib.suppress(InputError), contextlib.redirect_stdout(io.StringIO()):
        parts = [part for part in run.dataset.train if _at_path_of(part.image, here)]
        views += [part.view for part in parts]  # what the training read of it, such as a region
    recorded = read_json(run.workdir / "run.json", {}, COPY_RUN).get("slice_checksums", {})
    slices = [(int(z), image) for of_part in recorded.values() for z, (image, _) in of_part.items()]
    for view in views:
        if any(z < len(view) and checksum(view[z]) == image for z, image in slices):
            return False
    if slices and views[1:]:
        return True
    looks = dataclasses.replace(appearance(volume, run.pixel_nm), voxel_nm=None)
    return all(looks.difference(known) or looks.is_inverse_of(known) for known in here)


def _at_path_of(volume: Volume, learned: Sequence[Appearance]) -> list[Appearance]:
    return [known for known in learned if _same_path(volume.container or volume.path, known.path)]


def _learned_from(run: Run) -> list[Appearance]:
    """The volumes with labels in the training, as run.json records them; of an older run, as its files look."""
    path = run.workdir / "run.json"
    record = read_json(path, {}, COPY_RUN)
    if "labelled_volumes" in record:
        try:
            seen = [Appearance.from_json(volume) for volume in record["labelled_volumes"]]
            return [dataclasses.replace(one, path=path_of_training(one.path, record.get("folder"))) for one in seen]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} has labelled_volumes that cannot be used ({error!r}); {COPY_RUN}.") from error
    try:
        return run.appearances()
    except InputError:
        return []


def _same_path(path: str, other: str) -> bool:
    return Path(path).resolve() == Path(other).resolve()
