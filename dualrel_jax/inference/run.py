"""Opening the run in a work folder, to use its model."""

import dataclasses
import functools
import json
from pathlib import Path

from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Dataset, Part, load_dataset
from dualrel_jax.errors import InputError
from dualrel_jax.inference import threshold
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.methods import create_method
from dualrel_jax.methods.base import Method, Variables
from dualrel_jax.training.checkpoint import Checkpoints, abstract
from dualrel_jax.training.state import TrainState, abstract_state
from dualrel_jax.utils import sharding as sharding_lib
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.ranges import evenly_spaced


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

    @functools.cached_property
    def dataset(self) -> Dataset:
        return load_dataset(self.config.data)

    @functools.cached_property
    def threshold(self) -> float:
        """Probability above which a pixel is mitochondrion: `config.predict.threshold`, calibrated where that is 0.

        With `config.predict.foreground_fraction` the one at which the test volume is covered so far.
        """
        settings = self.config.predict
        if settings.foreground_fraction:
            slices = evenly_spaced([(part, z) for part in self.test_parts() for z in part.zs], threshold.SAMPLE)
            sample = self.predictor.each(self.variables, (part.image_at(z) for part, z in slices))
            return threshold.of_share(sample, settings.foreground_fraction)
        return settings.threshold or self._calibrated()

    def _calibrated(self) -> float:
        """Kept in threshold.json, for the training volume may be gone when another is segmented."""
        path = self.workdir / "threshold.json"
        fields = ("weights", "prediction_head", "tile", "overlap", "test_time_augmentation")
        of = {"step": self.step, **{key: self.config.predict[key] for key in fields}}
        if path.exists():
            kept = json.loads(path.read_text())
            if config_lib.migrate({"predict": kept["of"]})["predict"] == of:
                return kept["threshold"]
        try:
            partition = Partition.load(self.workdir / "partition.json")
            calibrated = threshold.calibrate(self.predictor, self.variables, self.dataset.train, partition)
        except InputError as error:
            print(f"The threshold is {threshold.UNCALIBRATED}, not calibrated on the training volume: {error}")
            return threshold.UNCALIBRATED
        print(threshold.explain(calibrated))
        found = calibrated or threshold.UNCALIBRATED
        if sharding_lib.is_first_host():
            write_text(path, json.dumps({"threshold": found, "of": of}) + "\n")
        return found

    def test_parts(self) -> tuple[Part, ...]:
        """The test set, or the validation set where there is none; InputError if there is neither."""
        parts = self.dataset.test or self.dataset.validation
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
    step, state = load_state(workdir, config)
    method = create_method(config)
    mesh = sharding_lib.create_mesh(config.train.devices)
    variables = state.teacher if config.predict.weights == "teacher" else state.variables
    pixel_nm = json.loads((workdir / "run.json").read_text())["pixel_nm"]
    predictor = Predictor(method, config, mesh)
    return Run(workdir, config, method, predictor, variables, step, pixel_nm and tuple(pixel_nm))


def load_state(workdir: Path, config: ConfigDict) -> tuple[int, TrainState]:
    """(step, state) of the checkpoint of `workdir` that `config.predict.checkpoint` names; InputError without one."""
    config = config_lib.resolve(config)
    shapes = abstract_state(create_method(config), config)
    sharding = sharding_lib.replicated(sharding_lib.create_mesh(config.train.devices))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        restored = checkpoints.restore(abstract(shapes, sharding), config.predict.checkpoint)
    if restored is None:
        raise InputError(f"{workdir} holds no checkpoint yet; run its training first (--mode=train).")
    return restored
