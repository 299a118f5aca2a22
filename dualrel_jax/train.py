"""train_and_evaluate(config, workdir): the whole story, read top to bottom."""

import contextlib
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.checks.labels import check_numbering
from dualrel_jax.data.checks.rules import check_place, check_view, check_voxel
from dualrel_jax.data.checks.single_masks import check_single_masks
from dualrel_jax.data.datasets.partition import Partition, make_partition
from dualrel_jax.data.datasets.registry import Dataset, load_dataset
from dualrel_jax.data.pipeline import augment
from dualrel_jax.data.pipeline.create import create_feed
from dualrel_jax.errors import InputError
from dualrel_jax.evaluate import evaluate_run
from dualrel_jax.inference import run
from dualrel_jax.inference.pseudo_labels import for_pseudo_labels, pseudo_labelled
from dualrel_jax.inference.scoring import score
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.inference.threshold import UNCALIBRATED, of_coverage
from dualrel_jax.inference.weights import StartingWeights, starting_weights
from dualrel_jax.methods import create_method
from dualrel_jax.methods.base import LabelledOnly, Method
from dualrel_jax.training import memory, profiling, schedules, stages
from dualrel_jax.training.checkpoint import Checkpoints, abstract
from dualrel_jax.training.metric_writer import MetricLogger, StepTimer, TrainingProgress
from dualrel_jax.training.state import (
    SkippedSteps,
    TrainState,
    abstract_state,
    create_optimizer,
    create_state,
    params_of,
    skip_unless_finite,
    update_teacher,
    with_params,
)
from dualrel_jax.training.workdir import claim_workdir, describe_run, explain_other_folder
from dualrel_jax.utils import interrupt, lock, sharding
from dualrel_jax.utils.text import quoted
from dualrel_jax.visualization import overlays, plots

MAX_SKIPPED = 5  # steps in a row that are not finite, at which a training stops: no accident of one batch
PATIENCE_S = 20.0  # after a signal, to the end of a step, whose state is then saved


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Trains in `workdir`, or continues the training there, then scores the result on the test set.

    Args:
        config: as `get_config` returns it; the same config continues a stopped training.
        workdir: folder of the run: checkpoints, scores and pictures.

    Returns:
        Scores as `evaluate` returns them: of the test set, of the validation set where there is none, and empty
        where no labelled slice was kept to score on.

    Raises:
        InputError: a file or a field cannot be used, or `workdir` holds another run.
    """
    config = config_lib.resolve(config)
    with explain_other_folder(Path(workdir)):
        dataset = load_dataset(config.data)
    train(config, workdir, dataset)
    interrupt.describe("Stopped after the training, while scoring; the same command continues.")
    trained = run.load_run(workdir, config)
    trained.dataset = dataset
    trained.keep_thresholds()
    if trained.dataset.test or trained.dataset.validation:
        return evaluate_run(trained)
    print(
        "Trained. No labelled slice was spared to score on; see what it finds: "
        f"dualrel predict {quoted(workdir)} YOUR_VOLUME"
    )
    return {}


def train(config: ConfigDict, workdir: str | Path, dataset: Dataset | None = None, wait_s: float = 0.0) -> TrainState:
    """Trains, or continues, the run in `workdir` on `config.data`, given as `dataset` if open; -> the final state.

    Another training in `workdir` is waited for at most `wait_s`, then InputError.
    """
    config, workdir = config_lib.resolve(config), Path(workdir)
    sharding.cache_compilations()
    with lock.folder_writer(workdir, wait_s) if sharding.is_first_host() else contextlib.nullcontext():
        return run_stages(config, workdir, dataset or load_dataset(config.data))


def run_stages(config: ConfigDict, workdir: Path, dataset: Dataset) -> TrainState:
    """The first stage and, where there is one, the second; -> the final state."""
    method, partition = create_method(config), make_partition(dataset.train, config.data)
    mesh = sharding.training_mesh(config.train, method.strong_views > 0)
    second_config = stages.second_stage(config)
    if second_config is not None and jax.process_count() > 1:
        raise InputError(
            f"config.train.second_stage_fraction is {config.train.second_stage_fraction:g}; expected 0 on several "
            "hosts: only one host can make the masks that a second stage learns from."
        )
    folder = workdir if second_config is None else workdir / "first_stage"
    initial = starting_weights(config, folder)
    first_config = config if second_config is None else config_lib.changed(config, {"train.second_stage_fraction": 0.0})
    for claimed, its_config in {workdir: config, folder: first_config}.items():
        claim_workdir(its_config, claimed)
        describe_run(claimed, dataset, partition, mesh, init=initial and initial.source)
    print_start(dataset, partition, config, initial)
    if idle := sharding.idle_devices(config.train, mesh):
        print(idle)
    if second_config is None:
        return run_stage(config, folder, method, dataset, partition, mesh=mesh, initial=initial)

    print(f"First stage: {config.train.steps} steps, in {folder}.")
    run_stage(first_config, folder, method, dataset, partition, mesh=mesh, initial=initial)
    interrupt.describe("Stopped between the two stages; the same command continues.")
    print(f"Second stage: {second_config.train.steps} steps, on the labels and on masks of all training slices.")
    first = run.load_run(folder, for_pseudo_labels(first_config))
    first.dataset = dataset
    pseudo = pseudo_labelled(first, partition, folder / "pseudo_labels")
    initial = starting_weights(config_lib.changed(config, {"train.init": str(folder)}), workdir)
    return run_stage(second_config, workdir, LabelledOnly(method), *pseudo, mesh=mesh, initial=initial)


def run_stage(
    config: ConfigDict,
    workdir: Path,
    method: Method,
    dataset: Dataset,
    partition: Partition,
    *,
    mesh: jax.sharding.Mesh,
    initial: StartingWeights | None,
) -> TrainState:
    """One stage, from `initial` weights or from new ones; -> the final state."""
    # ---- State: new, or that of the last checkpoint ------------------------------------------------------------------
    optimizer = create_optimizer(method, config.train)
    with (
        contextlib.closing(TrainingProgress(config.train.steps)) as progress,  # before any sentence about an end
        Checkpoints(workdir / "checkpoints", config.train.keep_checkpoints, clean=True) as checkpoints,
        memory.explain_out_of_memory(config),
    ):
        start_step, state = restore_or_init(checkpoints, method, optimizer, config, mesh=mesh, initial=initial)

        # ---- The step ------------------------------------------------------------------------------------------------
        unlabelled = method.strong_views > 0
        feed = create_feed(config, dataset, partition, read_unlabelled=unlabelled, mesh=mesh, start_step=start_step)
        step_fn = memory.CompiledStep(make_train_step(method, optimizer, feed, config, mesh))
        step_fn = profiling.profiled(step_fn, config, workdir, start_step)
        predictor = Predictor(method, config, mesh)
        logger = MetricLogger(workdir, start_step)
        timer = StepTimer(start_step)
        interrupt.describe(f"Stopped at step {start_step}; the same command continues.")

        # ---- The loop ------------------------------------------------------------------------------------------------
        intervals = config.train.log_every_steps, config.train.eval_every_steps, config.train.checkpoint_every_steps
        at_once = config.train.steps_per_call
        for step in range(start_step + at_once, config.train.steps + 1, at_once):
            log, evaluate, save = (step == config.train.steps or step % interval == 0 for interval in intervals)
            state, diagnostics = step_fn(state, next(feed))
            if log or evaluate or save:  # what diverged is neither scored nor kept
                scalars = check_divergence(jax.device_get(diagnostics), jax.device_get(state.skipped), step, config)
            if log:
                speed = {f"speed/{name}": value for name, value in timer.lap(step).items()}
                logger.write(step, {f"train/{name}": value for name, value in scalars.items()} | speed)
                progress.update(step, describe_step(scalars))
            scores = validate(predictor, state, dataset, config, workdir=workdir, step=step) if evaluate else None
            if scores:
                logger.write(step, {f"validation/{name}": value for name, value in scores.items()})
                progress.write(step, f"JAC {scores['jac_calibrated']:.3f} on validation slices")
            if save or scores:
                checkpoints.save(step, state, scores)
                timer.start(step)
            stop_if_asked(checkpoints, step, None if save or scores else state)

    # ---- The end -----------------------------------------------------------------------------------------------------
    interrupt.describe(f"Stopped at step {config.train.steps}; the same command continues.", patience_s=1.0)
    logger.close()
    if sharding.is_first_host():
        plots.training_curves(logger.path, workdir / "pictures" / "curves.png")
    return state


def print_start(
    dataset: Dataset, partition: Partition, config: ConfigDict, initial: StartingWeights | None = None
) -> None:
    """How many slices there are, what of the volume looks unusual, and what weights the training starts from."""
    print(f"{dataset.name}: {partition.describe(create_method(config).strong_views > 0)}.")
    first = dataset.train[0]
    findings = [*check_voxel(first.image, first.name), *check_view(first, config.train.crop_px)]
    for part in dataset.train:
        if part.labelled_zs:
            findings += [*check_place(part), *check_numbering(part, config.data), *check_single_masks(part)]
    for finding in findings:
        print(finding)
    if initial is not None:
        print(initial.describe(first.pixel_nm))


def restore_or_init(
    checkpoints: Checkpoints,
    method: Method,
    optimizer,
    config: ConfigDict,
    *,
    mesh: jax.sharding.Mesh,
    initial: StartingWeights | None,
) -> tuple[int, TrainState]:
    """(step, state) of the last checkpoint, or the state at step 0; InputError if a call would begin within a call."""
    restored = checkpoints.restore(abstract(abstract_state(method, config), sharding.replicated(mesh)))
    if restored is None:
        state = init_state(method, optimizer, config, mesh)
        if initial is not None:
            state = initial.put_into(state, mesh)
        return 0, state
    start_step, at_once = restored[0], config.train.steps_per_call
    if start_step % at_once:
        raise InputError(
            f"config.train.steps_per_call is {at_once}; expected a divisor of {start_step}, the step at which "
            "the training was stopped."
        )
    print(f"Continuing at step {start_step}.")
    return restored


def init_state(method: Method, optimizer, config: ConfigDict, mesh) -> TrainState:
    """The state at step 0, a copy on every device of the mesh."""
    image = jnp.zeros((1, config.train.crop_px, config.train.crop_px, 1))
    create = functools.partial(create_state, method, optimizer)
    # rbg draws other weights on another kind of device. The default generator, threefry, draws the same everywhere, but
    # at size tiny compiling takes 21 s of CPU with it and 8 s with rbg.
    key = jax.random.key(config.seed, impl="rbg")
    return jax.jit(create, out_shardings=sharding.replicated(mesh))(key, image)


def make_train_step(method: Method, optimizer: optax.GradientTransformation, feed, config: ConfigDict, mesh):
    """`steps_per_call` steps: (state, what the feed gives) -> (state, diagnostics of the last one).

    All randomness of a step is (seed, step).
    """
    update = make_update(method, optimizer, config)

    def train_step(state: TrainState, data, seed: jax.Array):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        crop_key, augment_key, method_key = jax.random.split(key, 3)
        with jax.named_scope("crops"):
            raw = sharding.shard_batch(feed.crops(data, crop_key), mesh)
        with jax.named_scope("augment"):
            batch = augment.augment_batch(augment_key, raw, config.augment, config.train.crop_px, method.strong_views)
        return update(state, batch, method_key)

    def train_steps(state: TrainState, data, seed: jax.Array):
        def body(state, _):
            return train_step(state, data, seed)

        state, diagnostics = jax.lax.scan(body, state, length=config.train.steps_per_call)
        return state, jax.tree.map(lambda values: values[-1], diagnostics)

    steps = train_step if config.train.steps_per_call == 1 else train_steps
    compiled = jax.jit(steps, donate_argnums=0, out_shardings=sharding.replicated(mesh))
    # An argument, not a constant: then all seeds share one compiled program.
    return functools.partial(compiled, seed=np.uint32(config.seed))


def make_update(method: Method, optimizer: optax.GradientTransformation, config: ConfigDict):
    """What a step learns from a batch, if that is finite: (state, batch, key) -> (state, diagnostics)."""
    decay = schedules.ema_decay(config.train.ema_fraction, config.train.steps)

    def update(state: TrainState, batch: augment.Batch, key: jax.Array):
        def loss_fn(params):
            return method.loss(with_params(state.variables, params), state.teacher, batch, key, state.step)

        params = params_of(state.variables)
        gradients, (diagnostics, variables) = jax.grad(loss_fn, has_aux=True)(params)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(gradients, state.opt_state, params)
            variables = with_params(variables, optax.apply_updates(params, updates))
        with jax.named_scope("update_teacher"):
            teacher = update_teacher(state.teacher, variables, decay, state.step)
        diagnostics = {**diagnostics, "gradient_norm": optax.tree.norm(gradients)}
        after = TrainState(state.step + 1, variables, teacher, opt_state, state.skipped)
        return skip_unless_finite(state, after, diagnostics), diagnostics

    return update


def validate(
    predictor: Predictor, state: TrainState, dataset: Dataset, config: ConfigDict, *, workdir: Path, step: int
):
    """Scores of the validation block, with a picture of it; None where there is none."""
    if not dataset.validation:
        return None
    variables = state.teacher if config.predict.weights == "teacher" else state.variables
    fixed, slices = config.predict.threshold, config.train.eval_slices
    scores, samples = score(predictor, variables, dataset.validation, fixed or UNCALIBRATED, max_slices=slices)
    if sharding.is_first_host():
        overlays.mask_sheet(samples, workdir / "pictures" / f"validation_{step:06d}.png")
    summary = scores.summary()
    # Masks are made at a calibrated threshold, so checkpoints are ranked at the one the same rule takes here.
    covering = of_coverage(scores.histograms.sum(axis=0), scores.histograms[1].sum()) or UNCALIBRATED
    summary["jac_calibrated"] = summary["jac_pooled"] if fixed else scores.jac_at(covering)
    return summary


def stop_if_asked(checkpoints: Checkpoints, step: int, unsaved: TrainState | None) -> None:
    """After a signal saves the state of this step, unless that is done, and raises Stopped.

    Of several hosts a signal reaches one, and saving needs them all: that one ends, and the run continues from its
    last checkpoint.
    """
    if jax.process_count() > 1:
        interrupt.describe(f"Stopped at step {step}; the same command continues from the last checkpoint.")
        return
    if interrupt.requested():
        interrupt.allow(interrupt.SAVE_S)
        if unsaved is not None:
            checkpoints.save(step, unsaved)
        interrupt.describe(f"Stopped at step {step}; the same command continues from there.")
        raise interrupt.Stopped
    interrupt.describe(
        f"Stopped at step {step}; the same command continues from the last checkpoint.", patience_s=PATIENCE_S
    )


def check_divergence(
    diagnostics: dict[str, np.ndarray], skipped: SkippedSteps, step: int, config: ConfigDict
) -> dict[str, float]:
    """Scalars to log, with the steps skipped so far if any; InputError where the last MAX_SKIPPED steps all were."""
    scalars = {name: float(value) for name, value in diagnostics.items()}
    if skipped.in_a_row >= MAX_SKIPPED:
        values = ", ".join(f"{name} {value:g}" for name, value in scalars.items() if not np.isfinite(value))
        raise InputError(
            f"The last {skipped.in_a_row} updates, at step {step} too, were not finite and were skipped "
            f"({values or 'the parameters themselves'}): the training diverged; lower --config.train.learning_rate "
            f"({config.train.learning_rate:g}) and train in a new --workdir."
        )
    return scalars | ({"skipped_steps": float(skipped.total)} if skipped.total else {})


def describe_step(scalars: dict[str, float]) -> str:
    """The loss on labels, which falls in a healthy training: the sum rises as the weight of the other terms grows."""
    on_labels = scalars.get("loss_supervised", scalars["loss"])  # the supervised method has no other term
    skipped = scalars.get("skipped_steps", 0)
    return f"loss on labels {on_labels:.3f}" + (f", {skipped:.0f} steps not finite and skipped" if skipped else "")
