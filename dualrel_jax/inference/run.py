"""Opening the run in a work folder, to use its model."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.datasets.appearance import Appearance, appearances
from dualrel_jax.data.datasets.own import FILES, split_paths
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Dataset, Part, load_dataset, load_test
from dualrel_jax.errors import InputError
from dualrel_jax.inference import threshold
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.inference.z_smoothing import knows_z
from dualrel_jax.methods import create_method
from dualrel_jax.methods.base import Method, Variables
from dualrel_jax.training.state import abstract_state
from dualrel_jax.training.weights_file import FILE_NAMES, named, read_file, unflatten
from dualrel_jax.training.workdir import path_of_training
from dualrel_jax.utils import sharding as sharding_lib
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json
from dualrel_jax.utils.text import quoted


@dataclasses.dataclass
class Run:
    """A trained model, ready to use."""

    workdir: Path
    config: ConfigDict
    method: Method
    predictor: Predictor
    variables: Variables
    step: int
    pixel_nm: tuple[float, float] | None  # training pixel size (y, x)
    _predictors: dict[str, Predictor] = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def dataset(self) -> Dataset:
        """What the model was trained on; InputError where its files are gone."""
        try:
            return load_dataset(self.config.data)
        except InputError as error:
            raise InputError(f"{self.workdir} was trained on files that cannot be read here: {error}") from error

    @functools.cached_property
    def activations(self) -> Callable | None:
        """The method's `activations` (variables, image) of prototypes, jitted once; None where it has no prototypes."""
        function = getattr(self.method, "activations", None)
        return jax.jit(function) if function else None

    def predictor_of(self, prediction_head: str) -> Predictor:
        """That of the config, unless it is of another head."""
        if prediction_head == self.config.predict.prediction_head:
            return self.predictor
        if prediction_head not in self._predictors:
            config = config_lib.changed(self.config, {"predict.prediction_head": prediction_head})
            mesh = sharding_lib.available_mesh(config.train.devices)
            self._predictors[prediction_head] = Predictor(self.method, config, mesh)
        return self._predictors[prediction_head]

    def calibrated_threshold(self, prediction_head: str, smoothing_nm: float = 0.0) -> float:
        """The threshold calibrated beside the labelled slices; computed, explained in print and kept the first time.

        Kept in threshold.json, for the training volume may be gone when another is segmented; that of probabilities
        averaged along z by `smoothing_nm` in threshold_smoothed.json.
        """
        path = self.workdir / ("threshold_smoothed.json" if smoothing_nm else "threshold.json")
        fields = ("weights", "tile", "overlap", "test_time_augmentation")
        settings = {key: self.config.predict[key] for key in fields}
        of = {"step": self.step, **settings, "prediction_head": prediction_head}
        if smoothing_nm:
            of["z_smoothing_nm"] = smoothing_nm
        if path.exists():
            kept = read_json(path, {"threshold": float, "of": dict}, "delete it, and it is made again")
            if config_lib.migrate({"predict": kept["of"]})["predict"] == of:
                return kept["threshold"]
        partition = Partition.load(self.workdir / "partition.json")
        try:
            predictor = self.predictor_of(prediction_head)
            calibrated = threshold.calibrate(
                predictor, self.variables, self.dataset.train, partition, smoothing_nm=smoothing_nm
            )
        except InputError as error:
            print(f"The threshold is {threshold.UNCALIBRATED}, not calibrated: {error}")
            return threshold.UNCALIBRATED
        print(threshold.explain(calibrated, smoothing_nm))
        value = calibrated or threshold.UNCALIBRATED
        if sharding_lib.is_first_host() and os.access(self.workdir, os.W_OK):  # a shared run may be read-only
            write_text(path, json.dumps({"threshold": value, "of": of}) + "\n")
        return value

    def keep_thresholds(self) -> None:
        """Calibrates the thresholds of `evaluate` and of `predict` while the files of the training are here."""
        settings, labelled = self.config.predict, [part.image for part in self.dataset.train if part.labelled_zs]
        if not settings.threshold:
            smoothing_nm = settings.z_smoothing_nm if all(map(knows_z, labelled)) else 0.0
            for of_nm in dict.fromkeys((0.0, smoothing_nm)):
                self.calibrated_threshold(settings.prediction_head, of_nm)

    def appearances(self) -> list[Appearance]:
        """What the volumes with labels look like, from their files; InputError where they are gone."""
        return appearances(self.dataset, Partition.load(self.workdir / "partition.json"))

    @functools.cached_property
    def test_parts(self) -> tuple[Part, ...]:
        """The test set, or the validation set where there is none; InputError if there is neither.

        A test volume of the config needs no other file of the training.
        """
        try:
            parts = self.dataset.test or self.dataset.validation
        except InputError:
            if not self.config.data.test_image:
                raise
            parts = (load_test(self.config.data, self.pixel_nm),)
        if not parts:
            raise InputError(
                f"The data set {self.dataset.name} has neither a test nor a validation volume; name one with "
                "--config.data.test_image=... and --config.data.test_label=..."
            )
        return parts


def load_run(workdir: str | Path, config: ConfigDict | None = None) -> Run:
    """The run in `workdir`, from its own config, or `config` if that describes the same training."""
    workdir = Path(workdir)
    own = config_lib.load(workdir / "config.json")
    config = config_lib.resolve(config if config is not None else own)
    different = config_lib.difference(own, config)
    if different:
        raise InputError(f"{workdir} was trained with another config ({different}); leave that field as it was.")
    config = _with_paths_of_training(config, own, read_json(workdir / "run.json", {}, COPY_RUN).get("folder"))
    method = create_method(config)
    mesh = sharding_lib.available_mesh(config.train.devices)
    step, variables = _load_variables(workdir, config)
    pixel_nm = _training_pixel(workdir / "run.json")
    predictor = Predictor(method, config, mesh)
    return Run(workdir, config, method, predictor, variables, step, pixel_nm)


def _with_paths_of_training(config: ConfigDict, own: ConfigDict, folder: str | None) -> ConfigDict:
    """`config` whose files are those of the training, whatever folder this is; what was named anew stays."""
    paths = {key: config.data[key] for key in FILES if config.data[key] == own.data[key]}
    moved = {
        f"data.{key}": ",".join(path_of_training(path, folder) for path in split_paths(text))
        for key, text in paths.items()
    }
    return config_lib.changed(config, moved).lock()


def _load_variables(workdir: Path, config: ConfigDict) -> tuple[int, Variables]:
    """(step, weights) of a run's checkpoint or, in a folder that `export` wrote, of its weights file."""
    file = next((workdir / name for name in FILE_NAMES if (workdir / name).is_file()), None)
    if file is None:
        return load_weights(workdir, config, config.predict.weights)
    expected = abstract_state(create_method(config), config).variables
    weights = read_file(file, f"expected the weights of the config beside it: {_COPY}")
    shapes = {name: leaf.shape for name, leaf in zip(*named(expected), strict=True)}
    different = next((name for name in {**shapes, **weights} if np.shape(weights.get(name)) != shapes.get(name)), None)
    if different:
        raise InputError(f"{file} does not fit {workdir / 'config.json'} ({different}); {_COPY}.")
    step = read_json(workdir / "run.json", {"step": int}, _COPY)["step"]
    return step, sharding_lib.replicate(unflatten(weights), sharding_lib.available_mesh(config.train.devices))


COPY_RUN = "copy it from where the run was trained, or repeat the training command, which writes it again"
_COPY = "copy the whole folder from where it was exported"


def _training_pixel(path: Path) -> tuple[float, float] | None:
    """Pixel size (y, x) in nm of a training, from its run.json; None where it was not known."""
    pixel_nm = read_json(path, {"pixel_nm": (list, type(None))}, COPY_RUN)["pixel_nm"]
    if pixel_nm is None:
        return None
    if len(pixel_nm) != 2 or not all(isinstance(size, int | float) and size > 0 for size in pixel_nm):
        raise InputError(f"{path} has pixel_nm = {pixel_nm}; expected two lengths above 0 (y, x): {COPY_RUN}.")
    return tuple(pixel_nm)


def load_weights(workdir: Path, config: ConfigDict, of: str) -> tuple[int, Variables]:
    """(step, weights) of the checkpoint of `workdir` that `config.predict.checkpoint` names.

    Args:
        of: teacher or student.

    Raises:
        InputError: there is no checkpoint.
    """
    from dualrel_jax.training.checkpoint import Checkpoints, abstract  # Orbax: 0.3 s that a weights file does not need

    config = config_lib.resolve(config)
    field = {"teacher": "teacher", "student": "variables"}[of]
    shapes = getattr(abstract_state(create_method(config), config), field)
    sharding = sharding_lib.replicated(sharding_lib.available_mesh(config.train.devices))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        restored = checkpoints.restore({field: abstract(shapes, sharding)}, config.predict.checkpoint, partial=True)
    if restored is None:
        raise InputError(
            f"{workdir} holds no checkpoint yet; run its training first (dualrel train {quoted(workdir)})."
        )
    step, state = restored
    return step, state[field]
