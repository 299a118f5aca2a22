"""Configs of files that a person names: that of a run, a YAML file, or a Python config."""

from pathlib import Path

import yaml
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.config.overrides import override
from dualrel_jax.config.schema import flat
from dualrel_jax.errors import InputError

_EXPECTED = "sections with their fields, such as data: {image: volume.tif, label: masks}"


def read_file(name: str) -> ConfigDict:
    """The config of a file.

    Args:
        name: a run or its config.json; a .yaml file with some fields of a config, where `method` may be a name alone;
            or `METHOD.py:DATA[,LABELLED]`.

    Raises:
        InputError: there is no such file, it is no config, or it has a field or a value that there is not.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "config.json"
    if path.suffix == ".json":
        if not path.is_file():
            raise InputError(f"There is no config {path}; give a run or its config.json, a .yaml file or a METHOD.py.")
        return config_lib.load(path)
    if path.suffix in (".yaml", ".yml"):
        return _read_yaml(path)
    file, _, argument = name.partition(":")
    return config_lib.read_config(config_lib.find_config(file), argument)


def empty_preset(config: ConfigDict) -> None:
    """Empties the fields that still have the values of the preset `config.size`, for another size to fill."""
    from dualrel_jax.configs.sizes import SIZES

    with config.unlocked():
        for key, value in SIZES.get(config.size, {}).items():
            section, name = key.split(".")
            if config[section][name] == value:
                config[section][name] = None


def take_model(config: ConfigDict, run: Path) -> None:
    """Gives `config` the network and the pixels of an earlier run, whose weights it is to start from."""
    if not (run / "config.json").is_file():
        return  # a file of weights
    earlier = config_lib.load(run / "config.json")
    with config.unlocked():
        config.size = earlier.size
        config.model.update(earlier.model)
        config.data.pixel_nm, config.data.upsample = earlier.data.pixel_nm, earlier.data.upsample


def _read_yaml(path: Path) -> ConfigDict:
    try:
        text = path.read_text(encoding="utf-8")
        # Of BaseLoader every value is a text, for the fields to read: else 10:12 would be 612, base 60.
        tree = yaml.load(text, Loader=yaml.BaseLoader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())}); expected {_EXPECTED}.") from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in flat(tree)):
        raise InputError(f"{path} is no config; expected {_EXPECTED}.")
    method, data = tree.pop("method", {}), tree.get("data", {})
    method = {"name": method} if isinstance(method, str) else method
    if not isinstance(method, dict) or not isinstance(data, dict):
        raise InputError(f"{path} has a method or data that is neither a name nor a section; expected {_EXPECTED}.")
    name = data.get("name", "own" if "image" in data else "phantom")
    config = config_lib.get_config(f"{method.get('name', 'dualrel')}:{name}")
    values = flat({**tree, "method": method})
    override(config, [f"--config.{key}={_text(value)}" for key, value in values.items()])
    return config


def _text(value: object) -> str:
    """A list as the fields write it, its entries with commas between them."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
