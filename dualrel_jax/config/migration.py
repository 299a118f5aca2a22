"""Configs of earlier versions: fields that were renamed, added or removed since, in saved runs and on command lines."""

import re
from collections.abc import Iterable
from typing import Any

from dualrel_jax.errors import InputError

# Old name -> new name. A key that starts with the name of a method renames a field of that method alone.
RENAMED = {
    "data.foreground_share": "data.foreground_crop_fraction",
    "predict.share": "predict.foreground_fraction",
    "predict.views": "predict.orthogonal_planes",
    "predict.grey": "predict.intensity_range",
    "predict.output_of": "predict.prediction_head",
    "predict.block_px": "predict.window_px",
    "predict.flips": "predict.test_time_augmentation",
    "train.patch": "train.crop_px",
    "train.ema_share": "train.ema_fraction",
    "method.ramp_share": "train.ramp_fraction",
    "method.predict_from": "method.prediction_head",
    "method.predict_elsewhere": "method.prediction_head_elsewhere",
    "method.soft_weight": "method.pixel_consistency_weight",
    "method.cross_weight": "method.cross_pseudo_label_weight",
    "dualrel.consistency_weight": "method.prototype_consistency_weight",
}
# New name -> {old value: new value}, where the values were renamed too.
VALUES = {"predict.orthogonal_planes": {"xy": False, "xyz": True}}
# Fields that shape a training -> what versions without the field did. Fields that do not (`config._FREE`) need no line.
ADDED = {"train.ramp_fraction": 1.0}  # only configs of the supervised method lacked it, which has no ramp
# Fields that this version lacks -> the value that it trains with. A run of another value needs the version it is from.
REMOVED: dict[str, Any] = {}

_FLAG = re.compile(
    r"--?(?P<no>no)?config\.(?P<prefix>base\.|rows\.(?P<row>\w+)\.)?(?P<key>\w+\.\w+)(?:=(?P<value>.*))?", re.S
)


def new_name(key: str, method: str = "") -> str:
    """The present name of the field `key`, such as `predict.share`, in a config of `method`."""
    section, _, field = key.partition(".")
    of_method = f"{method}.{field}" if section == "method" and method else ""
    return RENAMED.get(of_method) or RENAMED.get(key, key)


def new_value(key: str, value: Any) -> Any:
    """The present value of the field whose present name is `key`."""
    if isinstance(value, str):
        return VALUES.get(key, {}).get(value, value)
    return value


def migrate(config: dict[str, Any], path: object = "") -> dict[str, Any]:
    """A saved config, or some sections of one, with present names and values.

    InputError, which names `path`, where a field that was removed since had another value than `REMOVED` says.
    """
    method = config.get("method", {}).get("name", "")
    migrated = {key: {} if isinstance(value, dict) else value for key, value in config.items()}
    for section, fields in config.items():
        for field, value in fields.items() if isinstance(fields, dict) else ():
            key = new_name(f"{section}.{field}", method)
            if key in REMOVED:
                _check_removed(key, value, path)
                continue
            new_section, _, new_field = key.partition(".")
            migrated.setdefault(new_section, {})[new_field] = new_value(key, value)
    return migrated


def _check_removed(key: str, value: Any, path: object) -> None:
    if value != REMOVED[key]:
        raise InputError(
            f"{path}: config.{key} is {value!r}, which this version of dualrel_jax does not have; expected "
            f"{REMOVED[key]!r}. Use the version in its run.json, or train again in a new folder."
        )


def present_flags(argv: Iterable[str], method: str, rows: dict[str, Any] | None = None) -> list[str]:
    """`argv` with the old names of config fields replaced by the present ones; prints a line for each.

    Args:
      method: the method of the config; of a benchmark's row, that of `rows[row]`.
    """
    words = list(argv)
    for i, word in enumerate(words):
        if not (flag := _FLAG.fullmatch(word)):
            continue
        row = (rows or {}).get(flag["row"] or "", {})
        old = flag["key"]
        key = new_name(old, row.get("method", {}).get("name", "") if flag["row"] else method)
        if key in REMOVED:
            raise InputError(
                f"config.{old} was removed; this version works as it did with {REMOVED[key]!r}. Leave the flag out."
            )
        if key == old:
            continue
        prefix, value = flag["prefix"] or "", flag["value"]
        if value is None and not flag["no"] and i + 1 < len(words) and not words[i + 1].startswith("-"):
            value = words[i + 1]  # --config.predict.share 0.1
            words[i + 1] = ""
        present = f"--{flag['no'] or ''}config.{prefix}{key}"
        words[i] = present if value is None else f"{present}={new_value(key, value)}"
        print(f"config.{prefix}{old} is now config.{prefix}{key}.")
    return [word for word in words if word]
