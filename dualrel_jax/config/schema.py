"""What a config field may hold: type, unit, range or choices, and its meaning, written once beside the default."""

import dataclasses
import functools
import importlib
import math
import numbers
import pkgutil
import types
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from dualrel_jax.config.text_forms import Form
from dualrel_jax.errors import InputError

LONGEST_TEXT = 30_000  # characters of a text field
_TYPES = {bool: "True or False", int: "a whole number", float: "a number", str: "text", tuple: "two numbers"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a config.

    Attributes:
      default: None for a field that the preset `config.size` fills.
      meaning: what the field sets, without a full stop.
      type: bool, int, float, str, or tuple for (smallest, largest), two floats.
      unit: of a number, such as "nm".
      minimum, maximum: smallest and largest value, inclusive; of both numbers of a tuple.
      above, below: the same, exclusive.
      multiple_of: what divides the value.
      choices: the values there are.
      form: how a text is written; None for any text.
      special: what 0 or an empty text means, which is then allowed whatever the range or form.
    """

    default: Any
    meaning: str
    type: type
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    multiple_of: int | None = None
    choices: tuple[Any, ...] = ()
    form: Form | None = None
    special: str = ""

    def limits(self) -> str:
        """The range, choices or form in words; empty where every value of the type is allowed."""
        if self.choices:
            text = " or ".join(", ".join(map(str, self.choices)).rsplit(", ", 1))
        elif self.form:
            text = self.form.expected
        elif self.type is tuple:
            text = f"the smallest and the largest value, {self._range()}, such as {_example(self)}"
        else:
            text = self._range() + (f", a multiple of {self.multiple_of}" if self.multiple_of else "")
        named = self.special and (self.type is str or not self._in_range(0))
        special = f"{self.nothing()} ({self.special})" if named else ""
        return f"{text}, or {special}" if text and special else text

    def expected(self, value: Any) -> str:
        """What is expected instead of `value`: the type, if that is wrong, and the limits."""
        words = [] if self._has_type(value) or self.choices or self.form else [_TYPES[self.type]]
        return ", ".join([*words, *filter(None, [self.limits()])])

    def check(self, key: str, value: Any) -> None:
        """InputError unless the field `key` may hold `value`."""
        if not self._accepts(value):
            raise InputError(f"config.{key} is {shown(value)}; expected {self.expected(value)}: {self.meaning}.")

    def _accepts(self, value: Any) -> bool:
        if not self._has_type(value):
            return False
        if self.special and (value == 0 if self.type in (int, float) else value == ""):
            return True
        if self.choices:
            return value in self.choices
        if self.type is str:
            return len(value) <= LONGEST_TEXT and "\0" not in value and (self.form is None or self.form.accepts(value))
        if self.type is tuple:
            return value[0] <= value[1] and all(map(self._in_range, value))
        return self.type is bool or self._in_range(value)

    def _has_type(self, value: Any) -> bool:
        if self.type is tuple:
            return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_number, value))
        if self.type is float:
            return _is_number(value)
        if self.type is int:
            return isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return isinstance(value, self.type)

    def _in_range(self, value: float) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.multiple_of is None or value % self.multiple_of == 0)
        )

    def _range(self) -> str:
        number = f"{{:{',' if self.type is int else 'g'}}}".format
        low = [f"above {number(self.above)}"] if self.above is not None else []
        high = [f"below {number(self.below)}"] if self.below is not None else []
        if self.minimum is not None and self.maximum is not None:
            text = f"{number(self.minimum)} to {number(self.maximum)}"
        elif self.minimum is not None:
            text = ", ".join([f"{number(self.minimum)} or more", *high])
        elif self.maximum is not None:
            text = ", ".join([*low, f"up to {number(self.maximum)}"])
        else:
            text = ", ".join([*low, *high])
        return f"{text} {self.unit}" if text and self.unit else text

    def nothing(self) -> str:
        """The value that `special` explains."""
        return "0" if self.type in (int, float) else "empty"


Tree = Mapping[str, "Field | Tree"]  # section -> field -> Field, or field -> Field


def field(default: Any, meaning: str, **limits: Any) -> Field:
    """A field with a default, from which its type follows; `limits` as in `Field`."""
    return Field(default=default, meaning=meaning, type=type(default), **limits)


def preset(kind: type, meaning: str, **limits: Any) -> Field:
    """A field that the preset of `config.size` fills."""
    return Field(default=None, meaning=meaning, type=kind, **limits)


def defaults(fields: "Tree") -> ConfigDict:
    """The config, or a section of one, with these fields, each at its default."""
    values = {}
    for name, entry in fields.items():
        if isinstance(entry, Field):
            values[name] = config_dict.placeholder(entry.type) if entry.default is None else entry.default
        else:
            values[name] = defaults(entry)
    return ConfigDict(values)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"steps": 9}} -> {"train.steps": 9}."""
    leaves = {}
    for name, value in tree.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves


@functools.cache
def fields_of(method: str) -> dict[str, Field]:
    """Key, such as `train.steps`, -> field, of a training by `method`; InputError for a method that does not exist."""
    from dualrel_jax.configs import base

    if method not in method_names():
        raise InputError(f"config.method.name is {shown(method)}; expected one of {', '.join(method_names())}.")
    module = config_module(method)
    fields = flat({**base.FIELDS, "method": module.FIELDS})
    key, heads = "predict.prediction_head", getattr(module, "PREDICTION_HEADS", ("head",))
    return {**fields, key: dataclasses.replace(fields[key], choices=("default", *heads))}


def config_module(name: str) -> types.ModuleType:
    """The config file configs/<name>.py."""
    return importlib.import_module(f"dualrel_jax.configs.{name}")


@functools.cache
def method_names() -> list[str]:
    """The methods, each with a config file that lists its fields."""
    from dualrel_jax import configs

    names = [module.name for module in pkgutil.iter_modules(configs.__path__) if module.name != "base"]
    return sorted(name for name in names if hasattr(config_module(name), "FIELDS"))


def shown(value: Any) -> str:
    """The value as an error shows it, on one line and not too long."""
    text = repr(tuple(value) if isinstance(value, list) else value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _example(entry: Field) -> str:
    return str(tuple(entry.default))
