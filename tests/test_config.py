import json

import pytest

from dualrel_jax import config as config_lib
from dualrel_jax.errors import InputError
from dualrel_jax.methods import create_method


def saved_without(key, folder):
    """A run's config.json as an earlier version wrote it, without the field `key`."""
    config = json.loads(config_lib.resolve(config_lib.get_config("dualrel:phantom,4")).to_json())
    section, _, field = key.partition(".")
    del config[section][field]
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def test_a_field_younger_than_the_run_has_its_default(tmp_path):
    config = config_lib.load(saved_without("predict.flips", tmp_path))
    assert config.predict.flips is False and config.data.labelled == "4"


def test_a_younger_field_that_shapes_the_training_makes_another_version(tmp_path):
    for field in ("train.clip_norm", "method.soft_trust"):
        with pytest.raises(InputError, match=rf"another version.*{field}"):
            config_lib.load(saved_without(field, tmp_path))


@pytest.mark.parametrize(
    "section, fields, said",
    [
        ("train", {"steps_per_call": 0}, "train.steps_per_call is 0; expected 1 or more"),
        ("train", {"steps_per_call": 3}, "train.steps is 2000; expected a multiple of config.train.steps_per_call"),
        ("train", {"steps_per_call": 4, "log_every_steps": 10}, "log_every_steps is 10; expected a multiple"),
        ("profile", {"num_steps": 2}, "steps_per_call is 2; expected 1 for a profile"),
    ],
)
def test_steps_per_call_must_suit_all_that_happens_between_steps(section, fields, said):
    config = config_lib.get_config("dualrel:phantom,4")
    config.train.steps_per_call = 2
    config[section].update(fields)
    with pytest.raises(InputError, match=said):
        config_lib.resolve(config)


@pytest.mark.parametrize("scale", [(1.4, 0.7), (0.0, 1.0), (0.7,)])
@pytest.mark.parametrize("field", ["augment.scale", "method.strong_scale"])
def test_zooms_have_a_smallest_and_a_largest_above_zero(field, scale):
    config = config_lib.get_config("dualrel:phantom,4")
    config.update_from_flattened_dict({field: scale})
    with pytest.raises(InputError, match=f"{field} is .*; expected the smallest and the largest zoom"):
        create_method(config_lib.resolve(config))
