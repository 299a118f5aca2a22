"""Values of config fields that cannot be meant are refused in a sentence, before anything is computed."""

import contextlib
import json
import math
import random
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax import main
from dualrel_jax.config import schema
from dualrel_jax.errors import InputError

TEXTS = ["", " ", "nan", "inf", "-inf", "-1", "0", "-0.5", "0.5", "2.5", "1e308", "-1e308", "9" * 40, "1e400", "word"]
TEXTS += ["None", "True", "()", "(0.5,)", "(1, 2, 3)", "(2.0, 1.0)", "(nan, 1)", "[[1]]", "1,2", "{", "a" * 100_000]
TEXTS += ["1/0", "2/1", "all", "9:3", "1:2:3", "-3:5", "30,8", "0,8,8", "nan,nan,nan", "3,3", "1,2;x", "+", "vnc+", "µ"]
JSON_VALUES = [None, True, False, "", "word", -1, 0, 1, -0.5, 0.5, 1e308, 10**40, math.nan, math.inf, [], [1.0], {}]
JSON_VALUES += [[2.0, 1.0], [1, 2, 3], ["a", "b"], [math.nan, 1.0], {"a": 1}, [[1], [2]], "0", "nan"]
CCT_COUNTS = [f"method.num_{name}" for name in ("noise", "drop", "dropout", "cutout", "context", "object")]
CONFIGS = [f"configs/{name}.py" for name in schema.method_names()]


def one_sentence(error):
    return "\n" not in error and error.endswith((".", "?")) and len(error) < 800


def is_allowed(entry, value):
    """Whether a field may hold the value, by what its schema declares, written down a second time."""
    if entry.special and value in (0, ""):
        return True
    if entry.choices:
        return value in entry.choices
    if entry.type is str:
        return isinstance(value, str) and len(value) <= schema.LONGEST_TEXT
    if entry.type is bool:
        return value is True or value is False
    numbers = value if entry.type is tuple else [value]
    return (
        len(numbers) == (2 if entry.type is tuple else 1)
        and sorted(numbers) == list(numbers)
        and all(not isinstance(number, (bool, str)) and math.isfinite(number) for number in numbers)
        and all(entry.minimum is None or number >= entry.minimum for number in numbers)
        and all(entry.above is None or number > entry.above for number in numbers)
        and all(entry.maximum is None or number <= entry.maximum for number in numbers)
        and all(entry.below is None or number < entry.below for number in numbers)
        and all(entry.multiple_of is None or number % entry.multiple_of == 0 for number in numbers)
        and (entry.type is not int or all(number == int(number) for number in numbers))
    )


def draws(values, count, seed):
    """`count` of (config file, key, field, value), at random, each field at least once."""
    rng = random.Random(seed)
    fields = [(path, key, entry) for path in CONFIGS for key, entry in fields_of_file(path).items()]
    chosen = rng.sample(fields, len(fields)) + rng.choices(fields, k=max(0, count - len(fields)))
    return [(*choice, rng.choice(values)) for choice in chosen[:count]]


def fields_of_file(path):
    return schema.fields_of(config_lib.get_config(path.removeprefix("configs/").removesuffix(".py")).method.name)


def test_500_values_on_the_command_line_are_refused_in_a_sentence_or_allowed(monkeypatch, capsys):
    started = []
    monkeypatch.setattr(main, "run", lambda flags, config: started.append(config))
    refused = 0
    for path, key, entry, text in draws(TEXTS, 500, seed=0):
        started.clear()
        code = main.main([f"--config={path}:phantom", "--workdir=x", f"--config.{key}={text}"])
        error = capsys.readouterr().err
        if code == 0:
            value = schema.flat(started[0].to_dict())[key]
            assert is_allowed(entry, value), (key, text)
        else:
            assert code == 2 and not started
            assert error.startswith("dualrel: ") and one_sentence(error.strip()), (key, text, error)
            refused += 1
    assert 200 < refused < 500


def test_500_values_of_a_saved_config_are_refused_in_a_sentence_or_allowed():
    refused = 0
    for path, key, entry, value in draws(JSON_VALUES, 500, seed=1):
        tree = json.loads(config_lib.get_config(path.removeprefix("configs/").removesuffix(".py")).to_json())
        section = tree
        *sections, name = key.split(".")
        for part in sections:
            section = section[part]
        section[name] = value
        try:
            config = config_lib.resolve(ConfigDict(tree))
        except InputError as error:
            assert one_sentence(str(error)) and name in str(error), (key, value, error)
            refused += 1
        else:
            assert is_allowed(entry, schema.flat(config.to_dict())[key]), (key, value)
    assert 250 < refused < 500


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("seed=-1", "0 to 2,147,483,647"),
        ("data.labelled=0", "a fraction such as 1/32"),
        ("data.labelled=3/2", "a fraction such as 1/32"),
        ("data.labelled=1/0", "a fraction such as 1/32"),
        ("data.labelled=half", "a fraction such as 1/32"),
        ("data.train_region=9:3", "a range of slices such as 0:128"),
        ("data.validation_region=some", "a range of slices such as 0:128 .*or none"),
        ("data.train_region=0:9,0:9", ".*of z, y and x, of which parts may be left out, such as 0:128,,0:704"),
        ("data.voxel_nm=0,8,8", "the voxel size z,y,x in nm"),
        ("data.voxel_nm=30,8", "the voxel size z,y,x in nm"),
        ("data.labelled_slices=3,3", "the z of each label slice"),
        ("data.labelled_slices=3,03", "the z of each label slice"),
        ("data.labelled_slices=3,four", "the z of each label slice"),
        ("data.unlabelled_from=mars", "some of phantom"),
        ("data.pixel_nm=nan", "a number, 0.5 to 100 nm, or 0"),
        ("data.pixel_nm=0.2", "0.5 to 100 nm, or 0"),
        ("data.name=luchi", "phantom, phantom_b, lucchi"),
        ("data.source=web", "files or tfds"),
        ("data.label_kind=colour", "binary, instances or grey"),
        ("data.test_label_kind=colour", "same, binary, instances or grey"),
        ("data.partition=middle", "uniform or random"),
        ("data.pipeline=fast", "auto, resident or tf"),
        ("predict.domain=mine", "auto, training or other"),
        ("predict.checkpoint=first", "last or best"),
        ("predict.tile=0", "1 to 65,536 px"),
        ("predict.overlap=-1", "0 to 65,535 px"),
        ("augment.contrast=-2", "0 to 10"),
        ("augment.scale=(0.5,)", "two numbers"),
        ("augment.scale=(1.4, 0.7)", "the smallest and the largest value, 0.1 to 10"),
        ("train.learning_rate=0", "above 0, up to 1"),
        ("train.learning_rate=nan", "a number, above 0"),
        ("train.steps=many", "a whole number, 1 to 100,000,000"),
        ("train.steps=2.5", "a whole number"),
        ("predict.region=1:2,3:4", "a range of slices such as 0:128"),
        ("predict.region=5:2,,", "a range of slices such as 0:128"),
        ("predict.intensity_range=9,3", "two intensities, the lower first"),
        ("predict.intensity_range=black", "two intensities, the lower first"),
        ("predict.prediction_head=left", "default, head, prototypes or mean"),
        ("predict.threshold=1", "0 or more, below 1"),
        ("predict.window_px=-1", "0 to 1,048,576 px"),
        ("predict.z_smoothing_nm=-1", "0 to 10000 nm"),
        ("method.dim=0", "1 to 4,096"),
        ("method.num_references=0", "2 to 65,536"),
        ("method.num_prototypes=3", "2 to 1,024, a multiple of 2"),
        ("method.temperature=0", "0.001 to 100"),
        ("method.name=cps", "dualrel: the method; others have config files"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named_with_what_is_expected(flag, expected, capsys):
    key, _, text = flag.partition("=")
    assert main.main(["--config=configs/dualrel.py:phantom", "--workdir=x", f"--config.{flag}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dualrel: config.{key} is ") and text.strip("()").split(",")[0] in error
    with pytest.raises(AssertionError, match=rf"; expected {expected}"):
        raise AssertionError(error)


def test_every_number_has_a_smallest_and_a_largest_value_and_every_field_a_meaning():
    for method in schema.method_names():
        for key, entry in schema.fields_of(method).items():
            assert entry.meaning and not entry.meaning.endswith(".")
            if entry.type in (int, float, tuple) and not entry.choices:
                assert entry.minimum is not None or entry.above is not None, key
                assert entry.maximum is not None or entry.below is not None, key
            for unit in ("px", "nm", "mib", "um3"):
                assert not key.endswith(f"_{unit}") or entry.unit.lower() == unit, key
            if entry.default is not None:
                entry.check(key, entry.default)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("train.crop_px", 33, "crop_px is 33; .* of 3 and a stem of 4 needs a multiple of 16, such as 48"),
        ("predict.overlap", 2000, "overlap is 2000; expected less than config.predict.tile, which is 1024"),
        ("train.batch_unlabelled", 1, "batch_unlabelled is 1; expected 2 or more for CutMix"),
        ("method.feature_level", 4, "feature_level is 4; expected 0 to 2 for a U-Net of depth 3"),
    ],
)
def test_fields_that_contradict_each_other_are_named(field, value, error):
    config = config_lib.get_config("dualrel:phantom")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=error):
        config_lib.resolve(config)


@pytest.mark.parametrize(
    ("method", "fields", "error"),
    [
        *(
            (name, {"train.batch_unlabelled": 1}, "2 or more for CutMix")
            for name in ("cps_cutmix", "unimatch", "rankmatch")
        ),
        ("cps", {"train.batch_unlabelled": 1}, ""),
        ("dualrel_paper", {"train.batch_unlabelled": 1}, ""),
        *(
            (name, {"method.feature_level": 4}, "expected 0 to 2 for a U-Net")
            for name in ("dualrel_paper", "rankmatch")
        ),
        ("rankmatch", {"method.num_agents": 1025}, "num_agents is 1025; expected at most 1024"),
        ("cct", dict.fromkeys(CCT_COUNTS, 0), "has 0 for all of num_context, .*; expected 1 or more for one of them"),
    ],
)
def test_a_method_has_rules_of_its_own(method, fields, error):
    config = config_lib.get_config(f"{method}:phantom")
    config.update_from_flattened_dict(fields)
    with pytest.raises(InputError, match=error) if error else contextlib.nullcontext():
        config_lib.resolve(config)


def test_the_rule_of_a_method_does_not_reach_another_with_a_field_of_that_name(monkeypatch):
    from dualrel_jax.configs import supervised

    agents = schema.field(4000, "agents of this method", minimum=1, maximum=5000)
    monkeypatch.setitem(supervised.FIELDS, "num_agents", agents)
    monkeypatch.setattr(config_lib, "fields_of", schema.fields_of.__wrapped__)  # without its cache
    config = config_lib.get_config("supervised:phantom")
    config.method.num_agents = 4000
    assert config_lib.resolve(config).method.num_agents == 4000


def test_a_threshold_and_a_foreground_fraction_exclude_each_other():
    config = config_lib.get_config("dualrel:phantom")
    config.predict.update({"threshold": 0.4, "foreground_fraction": 0.1})
    with pytest.raises(InputError, match="expected one of them, the other at 0"):
        config_lib.resolve(config)


def test_drop_fractions_of_cct_are_in_order():
    config = config_lib.get_config("cct:phantom")
    config.method.drop_low = 0.95
    with pytest.raises(InputError, match="drop_low is 0.95; expected at most config.method.drop_high, which is 0.9"):
        config_lib.resolve(config)


def test_a_config_with_a_field_too_many_or_too_few_is_refused():
    config = config_lib.get_config("dualrel:phantom")
    config.train.stepz = 3
    with pytest.raises(InputError, match="no field train.stepz; did you mean config.train.steps"):
        config_lib.resolve(config)
    config = config_lib.get_config("dualrel:phantom")
    del config.train.clip_norm
    with pytest.raises(InputError, match="no value for train.clip_norm: largest global norm of the gradient"):
        config_lib.resolve(config)


def test_the_data_sets_of_the_schema_are_those_that_can_be_loaded():
    from dualrel_jax.configs.base import DATASETS, DOWNLOADS

    from dualrel_jax.data.datasets import public, registry

    assert DATASETS == tuple(registry.DATASETS)
    assert DOWNLOADS == tuple(layout.name for layout in public.LAYOUTS.values() if layout.remotes)


def test_a_value_is_refused_before_a_device_is_touched():
    program = (
        "import sys; from dualrel_jax.main import main;"
        "code = main(['--config=configs/dualrel.py:phantom', '--workdir=x', '--config.method.dim=0']);"
        "print(code, 'jax' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert printed.split() == ["2", "False"]
