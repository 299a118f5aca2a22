import json

import pytest

from dualrel_jax import settings
from dualrel_jax.errors import InputError


def saved_without(key, folder):
    """A run's config.json as an earlier version wrote it, without the field `key`."""
    config = json.loads(settings.resolve(settings.get_config("dualrel:phantom,4")).to_json())
    section, _, field = key.partition(".")
    del config[section][field]
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def test_a_field_younger_than_the_run_has_its_default(tmp_path):
    config = settings.load(saved_without("predict.flips", tmp_path))
    assert config.predict.flips is False and config.data.labelled == "4"


def test_a_younger_field_that_shapes_the_training_makes_another_version(tmp_path):
    for field in ("train.clip_norm", "method.soft_trust"):
        with pytest.raises(InputError, match=rf"another version.*{field}"):
            settings.load(saved_without(field, tmp_path))
