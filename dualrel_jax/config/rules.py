"""Rules between config fields, where each value alone is allowed."""

from ml_collections import ConfigDict

from dualrel_jax.errors import InputError


def check_together(config: ConfigDict) -> None:
    """InputError if fields of a complete config, each checked by its schema, contradict each other."""
    _check_steps_per_call(config)
    _check_crop(config)
    _check_threshold(config)
    _check_overlap(config)
    _check_cutmix(config)
    for field, rule in _OF_METHODS.items():
        if field in config.method:
            rule(config)


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


def _check_cutmix(config: ConfigDict) -> None:
    method = config.method
    uses_cutmix = method.name == "cps_cutmix" or "cutmix_probability" in method
    if (uses_cutmix or method.get("cross_pseudo_label_weight", 0)) and config.train.batch_unlabelled < 2:
        raise InputError(
            f"config.train.batch_unlabelled is {config.train.batch_unlabelled}; expected 2 or more for CutMix, which "
            "pastes a part of one crop into another."
        )


def _check_feature_level(config: ConfigDict) -> None:
    if config.method.feature_level >= config.model.depth:
        raise InputError(
            f"config.method.feature_level is {config.method.feature_level}; expected 0 to {config.model.depth - 1} for "
            f"a U-Net of depth {config.model.depth}."
        )


def _check_auxiliary_decoders(config: ConfigDict) -> None:
    counts = {key: value for key, value in config.method.items() if key.startswith("num_")}
    if not any(counts.values()):
        raise InputError(f"config.method has 0 for all of {', '.join(counts)}; expected 1 or more for one of them.")


def _check_drop(config: ConfigDict) -> None:
    low, high = config.method.drop_low, config.method.drop_high
    if low > high:
        raise InputError(f"config.method.drop_low is {low}; expected at most config.method.drop_high, which is {high}.")


def _check_agents(config: ConfigDict) -> None:
    method, side = config.method, config.train.crop_px // (config.model.stem * 2**config.method.feature_level)
    if method.num_agents > side**2:
        raise InputError(
            f"config.method.num_agents is {method.num_agents}; expected at most {side**2}, the features of a crop at "
            f"config.method.feature_level={method.feature_level}."
        )


_OF_METHODS = {  # a field of config.method -> the rule of the method that has it
    "feature_level": _check_feature_level,
    "num_agents": _check_agents,
    "auxiliary_width": _check_auxiliary_decoders,
    "drop_low": _check_drop,
}
