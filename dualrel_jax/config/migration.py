"""Configs of earlier versions: fields that were renamed, added or removed since."""

from typing import Any

from dualrel_jax.errors import InputError

# Old name -> new name. A key that starts with the name of a method renames a field of that method alone.
RENAMED = {
    "data.foreground_share": "data.foreground_crop_fraction",
    "data.train_slices": "data.train_region",
    "data.validation_slices": "data.validation_region",
    "predict.share": "predict.foreground_fraction",
    "predict.views": "predict.planes",
    "predict.orthogonal_planes": "predict.planes",
    "predict.grey": "predict.intensity_range",
    "predict.output_of": "predict.prediction_head",
    "predict.block_px": "predict.window_px",
    "predict.flips": "predict.test_time_augmentation",
    "instances.seed_depth_nm": "instances.neck_depth_nm",
    "train.patch": "train.crop_px",
    "train.ema_share": "train.ema_fraction",
    "method.ramp_share": "train.ramp_fraction",
    "method.predict_from": "method.prediction_head",
    "method.soft_weight": "method.pixel_consistency_weight",
    "method.cross_weight": "method.cross_pseudo_label_weight",
    "method.cutout_share": "method.cutout_fraction",
    "dualrel.consistency_weight": "method.prototype_consistency_weight",
}
# New name -> {old value: new value}, where the values were renamed too.
VALUES = {
    "predict.planes": {"False": "auto", "True": "xyz"},
    "method.reliability": {"uncertainty": "class"},
}
# Fields that shape a training -> what versions without the field did. Fields that do not (`config._FREE`) need no line.
ADDED = {
    "train.ramp_fraction": 1.0,  # only configs of the supervised method lacked it, which has no ramp
    "data.upsample": False,
    "model.stem": 1,
    "train.second_stage_fraction": 0.0,
    "train.init": "",
    "data.level": "0",
    "augment.filter": 0.0,
    "augment.curve": 0.0,
    "data.points": "",
    "data.point_radius_nm": 40.0,
}
# Fields that this version lacks -> the value that it trains with. A run of another value needs the version it is from.
REMOVED: dict[str, Any] = {
    "method.consistency": "map",
    "method.reliability_from": "class",
    "method.soft_target": "head",
    "method.soft_trust": "uniform",
    "method.cross_labels": "other",
    "method.num_vat": 0,
    "method.vat_distance": 2.0,
    "method.pseudo_labels": "student",
}
# Values of present fields that this version lacks likewise.
REMOVED_VALUES = {"method.rectification": ("gate", "referential"), "method.reliability": ("softmax",)}
# Removed, whatever the value -> what has their part.
DROPPED = {
    "method.predict_elsewhere": "config.predict.domain and prediction_head choose the head",
    "method.prediction_head_elsewhere": "config.predict.domain and prediction_head choose the head",
    "method.cutmix": "configs/cps.py trains without CutMix, configs/cps_cutmix.py with it",
}
TAG = "experiments-2026-11-29"  # of the repository: the last version with all of REMOVED


def new_name(key: str, method: str = "") -> str:
    """The present name of the field `key`, such as `predict.share`, in a config of `method`."""
    section, _, name = key.partition(".")
    of_method = f"{method}.{name}" if section == "method" and method else ""
    return RENAMED.get(of_method) or RENAMED.get(key, key)


def present_name(key: str, method: str) -> str:
    """The same for a flag; InputError for a field that was removed."""
    present = new_name(key, method)
    if present in REMOVED:
        raise InputError(
            f"config.{key} was removed; this version works as with {REMOVED[present]!r}: leave the flag out."
        )
    if present in DROPPED:
        raise InputError(f"config.{key} was removed; {DROPPED[present]}.")
    return present


def new_value(key: str, value: Any) -> Any:
    """The present value of the field whose present name is `key`."""
    return VALUES.get(key, {}).get(str(value), value)


def migrate(config: dict[str, Any], path: object = "") -> dict[str, Any]:
    """A saved config, or some sections of one, with present names and values.

    InputError, which names `path`, where a field that was removed since had another value than `REMOVED` says.
    """
    method = config.get("method", {}).get("name", "")
    migrated = {key: {} if isinstance(value, dict) else value for key, value in config.items()}
    for section, fields in config.items():
        for field, value in fields.items() if isinstance(fields, dict) else ():
            key = new_name(f"{section}.{field}", method)
            _check_removed(key, value, path)
            if key in REMOVED or key in DROPPED:
                continue
            new_section, _, new_field = key.partition(".")
            migrated.setdefault(new_section, {})[new_field] = new_value(key, value)
    if method == "cps":
        _migrate_cps(migrated, config["method"].get("cutmix"))
    return migrated


def _migrate_cps(config: dict[str, Any], cutmix: bool | None) -> None:
    """Earlier versions had CutMix as a field of CPS, and called the prediction `head` `left`, after its network."""
    if cutmix:
        config["method"]["name"] = "cps_cutmix"
    if config.get("predict", {}).get("prediction_head") == "left":
        config["predict"]["prediction_head"] = "head"


def _check_removed(key: str, value: Any, path: object) -> None:
    if value in REMOVED_VALUES.get(key, ()) or (key in REMOVED and value != REMOVED[key]):
        expected = f"{REMOVED[key]!r}" if key in REMOVED else "another value"
        raise InputError(
            f"{path}: config.{key} is {value!r}, which this version of dualrel_jax does not have; expected {expected}. "
            f"Use the version that is tagged {TAG}, or train again in a new folder."
        )
