"""Configs: found by name, filled from their preset, checked, saved and compared."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dualrel_jax.config.migration import ADDED, migrate
from dualrel_jax.config.overrides import unknown
from dualrel_jax.config.rules import check_together
from dualrel_jax.config.schema import Field, fields_of, flat
from dualrel_jax.constants import SECTIONS
from dualrel_jax.errors import InputError
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json

# Fields that may differ between a run and a later command on its work folder: they do not change the training.
_FREE = ("predict", "instances", "suggest", "export", "profile", "data.dir")
_FREE += ("data.test_image", "data.test_label", "data.test_label_kind", "data.test_ignore_value", "data.test_mask")
_FREE += ("data.test_voxel_nm", "data.cache_mib", "data.tfds_dir")
_FREE += ("data.partition_file", "train.steps_per_call", "train.devices", "train.keep_checkpoints")
_CONFIG_FILE = "expected a Python file with get_config(argument), which returns a ConfigDict, as configs/dualrel.py has"


def get_config(name: str) -> ConfigDict:
    """The config of a method and a data set, to change and to pass to `train_and_evaluate`.

    Args:
        name: `method:data set,labelled slices`, such as `dualrel:lucchi,1/32`: a file of configs/ and its argument.

    Returns:
        Every field with its default, or None where `config.size` presets it when a run starts; configs/base.py has
        their units and ranges.

    Raises:
        InputError: there is no such method.
    """
    method, _, argument = name.partition(":")
    return read_config(find_config(f"configs/{method}.py"), argument)


def read_config(path: Path, argument: str = "") -> ConfigDict:
    """The config that the config file at `path` makes of `argument`; InputError if it makes none."""
    try:
        spec = importlib.util.spec_from_file_location(f"dualrel_config_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(argument) if argument else module.get_config()
    except InputError:
        raise
    except Exception as error:  # a config file is a program of its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path} is no config file ({reason}); {_CONFIG_FILE}.") from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"get_config of {path} returns a {type(config).__name__}; {_CONFIG_FILE}.")
    return config


def find_config(path: str) -> Path:
    """A config file by path; `configs/NAME.py` is also found among the installed ones, from any directory."""
    if Path(path).is_file():
        return Path(path)
    folder = Path(importlib.util.find_spec("dualrel_jax.configs").origin).parent
    installed = folder / Path(path).name
    if Path(path).parent.name in ("configs", "") and installed.is_file():
        return installed
    known = ", ".join(
        sorted(f"configs/{p.name}" for p in folder.glob("*.py") if p.stem not in ("__init__", "base", "sizes"))
    )
    raise InputError(f"There is no config {path}; give the path of a config file, or one of {known}.")


def resolve(config: ConfigDict) -> ConfigDict:
    """A locked copy with every empty field filled from the preset `config.size`, and checked.

    Raises:
      InputError: a field too many or too few, a value that its field does not allow, or fields that contradict.
    """
    from dualrel_jax.configs.sizes import SIZES

    if "size" not in config:
        raise InputError(
            "--config is not that of one training; run it by python -m dualrel_jax.benchmark (see its --help)."
        )
    config = ConfigDict(json.loads(config.to_json_best_effort()))
    fields = _fields(config)
    fields["size"].check("size", config.size)
    for key, value in SIZES[config.size].items():
        section, name = key.split(".")
        if config[section][name] is None:
            config[section][name] = value
    values = flat(config.to_dict())
    for key, entry in fields.items():
        entry.check(key, values[key])
    check_together(config)
    return config.lock()


def _fields(config: ConfigDict) -> dict[str, Field]:
    """The fields of the config's method; InputError if the config has others, or lacks some."""
    tree = config.to_dict()
    method = tree.get("method")
    fields = fields_of(str(method.get("name")) if isinstance(method, dict) else "")
    there = flat(tree)
    if more := sorted(set(there) - set(fields)):
        raise unknown(more[0], fields)
    if missing := sorted(set(fields) - set(there)):
        raise InputError(f"The config has no value for {missing[0]}: {fields[missing[0]].meaning}; set it.")
    return fields


def changed(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """An unlocked copy of a config, or of a section of one, with other values of some fields: key -> value."""
    config = config.copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(values)
    return config


def save(config: ConfigDict, path: Path) -> None:
    write_text(path, config.to_json(indent=2) + "\n")


def load(path: Path) -> ConfigDict:
    """The config a run saved; InputError where there is none, or if a field that shapes a training is younger than it.

    Fields have their present names (`migration.RENAMED`). A younger field has the value that stands for what earlier
    versions did (`migration.ADDED`) or, if it does not shape a training, its default.
    """
    if not path.is_file():
        raise InputError(
            f"{path.parent} holds no finished or started run ({path.name} is missing); train there first, or give the "
            "folder of a run."
        )
    advice = "restore it from a backup, or train again in a new --workdir"
    config = read_json(path, {"method": dict}, advice)
    if not isinstance(config["method"].get("name"), str):
        raise InputError(f"{path} names no method; {advice}.")
    for section in SECTIONS:
        if not isinstance(config.get(section, {}), dict):
            raise InputError(f"{path} has {section} = {config[section]!r}; expected an object in braces: {advice}.")
    config = migrate(config, path)
    today, there = get_config(config["method"]["name"]).to_dict(), flat(config)
    if unknown_keys := sorted(set(there) - set(flat(today))):
        raise InputError(
            f"{path} has the field {unknown_keys[0]}, which this version of dualrel_jax does not have; use the version "
            "in its run.json, or train again in a new folder."
        )
    young = sorted(key for key in flat(today) if key not in there)
    if missing := [key for key in young if not _is_free(key) and key not in ADDED]:
        raise InputError(
            f"{path.parent} was trained by another version of dualrel_jax: its config lacks {', '.join(missing)}; "
            "use the version in its run.json, or train again in a new folder."
        )
    for key in young:
        section, field = key.split(".")
        config.setdefault(section, {})[field] = ADDED.get(key, today[section][field])
    return ConfigDict(config)


def difference(a: ConfigDict, b: ConfigDict) -> str:
    """The first field that makes `a` another training than `b`, as `key: a's value, b's value`; empty if none."""
    left, right = flat(a.to_dict()), flat(b.to_dict())
    for key in sorted({**left, **right}):
        if not _is_free(key) and _plain(left.get(key)) != _plain(right.get(key)):
            return f"config.{key}: {left.get(key)!r} there, {right.get(key)!r} now"
    return ""


def changes(config: ConfigDict) -> Iterator[tuple[str, Any, Any]]:
    """(key, value, default) of each field that its method's config would have had otherwise, at the same size."""
    default = get_config(f"{config.method.name}:{config.data.name},{config.data.labelled}")
    default.size = config.size
    defaults, own = (flat(json.loads(resolve(one).to_json())) for one in (default, config))
    for key, value in defaults.items():
        if "." in key and key in own and own[key] != value:
            yield key, own[key], value


def _is_free(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in _FREE)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
