"""Rules between config fields, where each value alone is allowed."""

from ml_collections import ConfigDict

from dualrel_jax.config.schema import config_module
from dualrel_jax.errors import InputError


def check_together(config: ConfigDict) -> None:
    """InputError if fields of a complete config, each checked by its schema, contradict each other.

    Rules of one method are the function `check` of its config file, if that has one.
    """
    _check_steps_per_call(config)
    _check_crop(config)
    _check_threshold(config)
    _check_overlap(config)
    check_method = getattr(config_module(config.method.name), "check", None)
    if check_method:
        check_method(config)


def side_multiple(model: ConfigDict) -> int:
    """Sides of an image must be multiples of this many pixels, for the network of `config.model`."""
    return model.stem * 2 ** (model.depth - 1)


def _check_steps_per_call(config: ConfigDict) -> None:
    train = config.train
    for field in ("steps", "log_every_steps", "eval_every_steps", "checkpoint_every_steps"):
        if train[field] % train.steps_per_call:
            raise InputError(
                f"config.train.{field} is {train[field]}; expected a multiple of config.train.steps_per_call, which "
                f"is {train.steps_per_call}."
            )
    if config.profile.num_steps and train.steps_per_call > 1:
        raise InputError(
            f"config.train.steps_per_call is {train.steps_per_call}; expected 1 for a profile, which measures single "
            "steps."
        )


def _check_crop(config: ConfigDict) -> None:
    multiple, crop_px = side_multiple(config.model), config.train.crop_px
    if crop_px % multiple:
        raise InputError(
            f"config.train.crop_px is {crop_px}; a U-Net with a depth of {config.model.depth} and a stem of "
            f"{config.model.stem} needs a multiple of {multiple}, such as {-(-crop_px // multiple) * multiple}."
        )


def _check_threshold(config: ConfigDict) -> None:
    predict = config.predict
    if predict.foreground_fraction and predict.threshold:
        raise InputError(
            f"config.predict.threshold is {predict.threshold} and config.predict.foreground_fraction "
            f"{predict.foreground_fraction}; expected one of them, the other at 0: the fraction sets the threshold."
        )
    if predict.points and (predict.foreground_fraction or predict.threshold):
        other = "foreground_fraction" if predict.foreground_fraction else "threshold"
        raise InputError(
            f"config.predict.points is {predict.points!r} and config.predict.{other} {predict[other]}; expected one of "
            "them: points lead to a threshold of their own."
        )


def _check_overlap(config: ConfigDict) -> None:
    overlap, tile = config.predict.overlap, config.predict.tile
    if overlap >= tile:
        raise InputError(
            f"config.predict.overlap is {overlap}; expected less than config.predict.tile, which is {tile}: set it to "
            f"{tile // 4}, for example."
        )


# ---- for the `check` of a method's config file


def check_cutmix(config: ConfigDict) -> None:
    """InputError if there is no second unlabelled crop to paste from."""
    if config.train.batch_unlabelled < 2:
        raise InputError(
            f"config.train.batch_unlabelled is {config.train.batch_unlabelled}; expected 2 or more for CutMix, which "
            "pastes a part of one crop into another."
        )


def check_feature_level(config: ConfigDict) -> None:
    """InputError if the decoder has no level `config.method.feature_level`."""
    if config.method.feature_level >= config.model.depth:
        raise InputError(
            f"config.method.feature_level is {config.method.feature_level}; expected 0 to {config.model.depth - 1} for "
            f"a U-Net of depth {config.model.depth}."
        )
