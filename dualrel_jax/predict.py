"""Segments a volume with a trained model: `dualrel predict RUN VOLUME`."""

import contextlib
import io
from pathlib import Path

from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.checks.volume import check_prediction_input
from dualrel_jax.data.datasets.own import named_files, parse_voxel, split_paths
from dualrel_jax.data.io.box_path import file_and_box
from dualrel_jax.data.io.pyramid import LevelChoice
from dualrel_jax.data.io.remote import RemotePath, as_place
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference.choice import choose, is_replaced
from dualrel_jax.inference.cluster import check_cluster, open_cluster
from dualrel_jax.inference.edges import check_edge, move_edges_on_disk
from dualrel_jax.inference.full_size import output_volume
from dualrel_jax.inference.places import note_last_prediction
from dualrel_jax.inference.predict_by_tasks import check_tasks, predict_by_tasks
from dualrel_jax.inference.predict_volume import (
    check_output_paths,
    check_settings,
    open_writers,
    predict_volume,
    sole_writer,
)
from dualrel_jax.inference.run import Run, load_run
from dualrel_jax.inference.windows import parse_region, region_at_level
from dualrel_jax.utils.tasks import Tasks
from dualrel_jax.utils.text import format_shape, quoted


def predict(workdir: str | Path, config: ConfigDict | None = None, cluster: str = "") -> dict[str, Path]:
    """Segments `config.predict.input` (or the run's test volume) with the model in `workdir`.

    Args:
        workdir: folder of a finished run.
        config: that of the run (default), or a copy with other fields of `predict`.
        cluster: where tasks run, as `inference.cluster.open_cluster` takes it; empty: in this process alone.

    Returns:
        Name to path of the files written: `mask`, `picture`, `about` (the settings) and, unless left out,
        `probability`.

    Raises:
        InputError: there is no run, or the volume or a field cannot be used, or another command writes the output.
    """
    config = config if config is not None else config_lib.load(Path(workdir) / "config.json")
    check_cluster(cluster)
    name = "mask.zarr" if cluster else "mask.tif"
    output = as_place(config.predict.output or Path(workdir) / "prediction" / name)
    if isinstance(output, RemotePath):  # the picture, the record and the progress stay on this machine
        output = output.with_side(Path(workdir) / "prediction")
    if cluster:
        check_tasks(config.predict, output)
    check_output_paths(output, [config.predict.input, *named_files(config.data)], config.predict)
    with sole_writer(output), open_cluster(cluster) as tasks:
        return _predict(load_run(workdir, config), output, tasks if cluster else None)


def _predict(run: Run, output: Path, tasks: Tasks | None) -> dict[str, Path]:
    settings = run.config.predict.copy_and_resolve_references()
    if settings.input:
        named = "0" if settings.points and settings.level == "auto" else settings.level  # points count its voxels
        level = LevelChoice(named, run.pixel_nm, key="predict.level")
        with contextlib.redirect_stdout(io.StringIO()) as lines:  # of the volume and its level, printed below
            volume = open_volume(settings.input, parse_voxel(settings.voxel_nm, "predict.voxel_nm"), choice=level)
    else:
        volume, lines = _test_volume(run), io.StringIO()
    trained = None if is_replaced(run, volume) else _in_training(run, volume.container or volume.path)
    if trained and not settings.voxel_nm:
        volume = volume.at_level(trained.full_voxel_nm)
        print(f"{volume.describe()}, as in the training")
    else:
        print(volume.describe())
    print("".join(lines.getvalue().splitlines(keepends=True)[1:]), end="")
    if volume.voxel_nm is None and run.pixel_nm is not None:
        print(
            f"{volume.path} does not say its voxel size: its pixels are taken to be those of the training, "
            f"{run.pixel_nm[0]:g} x {run.pixel_nm[1]:g} nm; --config.predict.voxel_nm=z,y,x sets them."
        )
    asked, shown = settings.region, output_volume(volume, settings)
    if settings.full_size:
        print(f"The mask has the voxels of {shown.path}, {format_shape(shown.shape)}.")
    else:
        settings.region = region_at_level(settings.region, volume)
    check_settings(volume, settings)
    check_edge(shown, output, settings.edge_nm)
    region = parse_region(settings.region, shown.shape)
    open_writers(shown, region, output, settings)  # refuses what cannot be written
    for finding in check_prediction_input(volume):
        print(finding)
    choice = choose(run, [volume], settings.z_smoothing_nm, whole_masks=True, all_planes=not tasks)
    settings.prediction_head, settings.threshold = choice.prediction_head, choice.threshold or 0.0
    settings.planes, settings.unsure_margin = choice.planes, choice.unsure_margin
    print(choice.explanation)
    if tasks:
        paths, fraction = predict_by_tasks(run, choice, volume, output, settings=settings, tasks=tasks)
    else:
        paths, fraction = predict_volume(
            choice.predictor, run.variables, volume, output, settings, pixel_nm=run.pixel_nm
        )
    if settings.edge_nm:
        print(f"The masks are {'grown' if settings.edge_nm > 0 else 'shrunk'} by {abs(settings.edge_nm):g} nm.")
        moved, fraction = move_edges_on_disk(shown, region, output, settings)
        paths |= moved
    where = f"the region {asked}" if asked else f"the {len(volume)} slices"
    print(f"Mitochondria fill {100 * fraction:.1f} % of {where} of {volume.path}.")
    for name, path in paths.items():
        print(f"  {name}: {path}")
    note_last_prediction(run.workdir, paths.get("probability"))
    return paths


def _test_volume(run: Run) -> Volume:
    try:
        return run.test_parts[0].image
    except InputError as error:
        raise InputError(
            f"There is no volume to segment; name one: dualrel predict {quoted(run.workdir)} volume.tif (without a "
            f"name it is the test volume of the training: {error})"
        ) from None


def _in_training(run: Run, path: str) -> Volume | None:
    """This file, or another box of it, as the training has it, with the voxel size it had there; None if it has not."""
    data, same = run.config.data, lambda other: file_and_box(other)[0] == file_and_box(path)[0]
    named = (name for key in ("image", "unlabelled", "test_image") for name in split_paths(data[key]))
    if data.name == "own" and not any(map(same, named)):
        return None  # its labels, which may be many, need not be read
    with contextlib.suppress(InputError), contextlib.redirect_stdout(io.StringIO()):
        for part in (*run.dataset.train, *run.dataset.validation, *run.dataset.test):
            if same(part.image.container or part.image.path):
                return part.image
    return None
