import json

import pytest

from dualrel_jax import config as config_lib
from dualrel_jax.config import migration, schema
from dualrel_jax.errors import InputError
from dualrel_jax.main import parse


def saved_without(key, folder):
    """A run's config.json as an earlier version wrote it, without the field `key`."""
    config = json.loads(config_lib.resolve(config_lib.get_config("dualrel:phantom,4")).to_json())
    section, _, field = key.partition(".")
    del config[section][field]
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def test_a_field_younger_than_the_run_has_its_default(tmp_path):
    config = config_lib.load(saved_without("predict.test_time_augmentation", tmp_path))
    assert config.predict.test_time_augmentation is False and config.data.labelled == "4"


def test_a_younger_field_that_shapes_the_training_makes_another_version(tmp_path):
    for field in ("train.clip_norm", "method.strong_scale"):
        with pytest.raises(InputError, match=rf"another version.*{field}"):
            config_lib.load(saved_without(field, tmp_path))


@pytest.mark.parametrize(
    "section, fields, said",
    [
        ("train", {"steps_per_call": 0}, "train.steps_per_call is 0; expected 1 to"),
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
    with pytest.raises(InputError, match=f"{field} is .*; expected .*the smallest and the largest value"):
        config_lib.resolve(config)


OLD = {  # as a version before the renaming saved them
    "data": {"foreground_share": 0.3},
    "predict": {
        "share": 0.1,
        "views": "xyz",
        "grey": "1,9",
        "output_of": "mean",
        "block_px": 99,
        "flips": True,
    },
    "train": {"patch": 32, "ema_share": 0.04},
    "method": {
        "name": "dualrel",
        "ramp_share": 0.5,
        "predict_from": "mean",
        "predict_elsewhere": "head",
        "soft_weight": 3.0,
        "cross_weight": 4.0,
        "consistency_weight": 5.0,
    },
}
PRESENT = {
    "data": {"foreground_crop_fraction": 0.3},
    "predict": {
        "foreground_fraction": 0.1,
        "planes": "xyz",
        "intensity_range": "1,9",
        "prediction_head": "mean",
        "window_px": 99,
        "test_time_augmentation": True,
    },
    "train": {"crop_px": 32, "ema_fraction": 0.04, "ramp_fraction": 0.5},
    "method": {
        "name": "dualrel",
        "prediction_head": "mean",
        "pixel_consistency_weight": 3.0,
        "cross_pseudo_label_weight": 4.0,
        "prototype_consistency_weight": 5.0,
    },
}


def test_a_saved_config_of_an_earlier_version_has_the_present_names():
    assert migration.migrate(OLD) == PRESENT
    assert migration.migrate(PRESENT) == PRESENT
    other = {"method": {"name": "cps", "consistency_weight": 5.0}}
    assert migration.migrate(other) == other


@pytest.mark.parametrize("key", ["prediction_head", "output_of"])
def test_the_head_of_cps_has_the_name_of_other_methods(key):
    old = {"method": {"name": "cps"}, "predict": {key: "left"}}
    assert migration.migrate(old)["predict"] == {"prediction_head": "head"}


@pytest.mark.parametrize(("cutmix", "name"), [(True, "cps_cutmix"), (False, "cps")])
def test_a_run_of_cps_with_the_field_cutmix_has_a_method_of_today(cutmix, name, tmp_path):
    present = config_lib.resolve(config_lib.get_config(f"{name}:phantom,4"))
    old = json.loads(present.to_json())
    old["method"] |= {"name": "cps", "cutmix": cutmix}
    (tmp_path / "config.json").write_text(json.dumps(old))
    loaded = config_lib.load(tmp_path / "config.json")
    assert config_lib.difference(loaded, present) == "" and loaded.method.name == name
    assert list(config_lib.changes(loaded)) == []


def test_the_removed_field_cutmix_names_the_config_that_has_it():
    with pytest.raises(InputError, match="method.cutmix was removed; .*configs/cps_cutmix.py with it"):
        parse(["--config=configs/cps.py:phantom", "--workdir=x", "--config.method.cutmix=True"])


def test_every_renamed_field_exists_and_its_old_name_is_free():
    present = {key for method in schema.method_names() for key in schema.fields_of(method)}
    assert set(migration.RENAMED.values()) | set(migration.ADDED) <= present
    assert not present & {*migration.RENAMED, *migration.REMOVED}
    assert "method.consistency_weight" not in schema.fields_of("dualrel")


def test_an_old_run_continues_under_the_present_names(tmp_path):
    config = json.loads(config_lib.resolve(config_lib.get_config("dualrel:phantom,4")).to_json())
    for new, old in {"crop_px": "patch", "ema_fraction": "ema_share"}.items():
        config["train"][old] = config["train"].pop(new)
    config["method"]["ramp_share"] = config["train"].pop("ramp_fraction")
    config["method"]["consistency_weight"] = config["method"].pop("prototype_consistency_weight")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    present = config_lib.resolve(config_lib.get_config("dualrel:phantom,4"))
    assert config_lib.difference(config_lib.load(path), present) == ""


def test_a_removed_field_is_dropped_at_its_value_and_refused_at_another(monkeypatch, tmp_path):
    monkeypatch.setattr(migration, "REMOVED", {"method.gone": "off"})
    tree = {"method": {"name": "dualrel", "gone": "off"}}
    assert migration.migrate(tree) == {"method": {"name": "dualrel"}}
    tree["method"]["gone"] = "on"
    with pytest.raises(InputError, match="config.json: config.method.gone is 'on'.*expected 'off'.*experiments-2026"):
        migration.migrate(tree, tmp_path / "config.json")


def test_a_run_with_the_switches_of_experiments_at_their_defaults_is_todays(tmp_path):
    config = json.loads(config_lib.resolve(config_lib.get_config("dualrel:phantom,4")).to_json())
    config["method"]["reliability"] = "uncertainty"
    old = {"consistency": "map", "reliability_from": "class", "soft_target": "head", "predict_elsewhere": "head"}
    config["method"] |= {**old, "soft_trust": "uniform", "cross_labels": "other"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    present = config_lib.resolve(config_lib.get_config("dualrel:phantom,4"))
    assert config_lib.difference(config_lib.load(path), present) == ""
    for field, value in {"cross_labels": "own", "rectification": "gate"}.items():
        path.write_text(json.dumps({**config, "method": {**config["method"], field: value}}))
        with pytest.raises(InputError, match=f"method.{field} is '{value}'.*tagged experiments-2026-11-29"):
            config_lib.load(path)


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (["--config.predict.share=0.1"], "predict.foreground_fraction", 0.1),
        (["--config.predict.share", "0.1"], "predict.foreground_fraction", 0.1),
        (["--config.predict.views=xyz"], "predict.planes", "xyz"),
        (["--config.predict.orthogonal_planes=True"], "predict.planes", "xyz"),
        (["--config.predict.orthogonal_planes=False"], "predict.planes", "auto"),
        (["--config.predict.flips"], "predict.test_time_augmentation", True),
        (["--noconfig.predict.flips"], "predict.test_time_augmentation", False),
        (["--config.method.consistency_weight=7"], "method.prototype_consistency_weight", 7.0),
        (["--config.method.ramp_share=0.4"], "train.ramp_fraction", 0.4),
    ],
)
def test_old_names_on_the_command_line_are_taken_with_a_line(flags, key, value, capsys):
    _, config = parse(["--config=configs/dualrel.py:phantom", "--workdir=x", *flags])
    section, _, field = key.partition(".")
    assert config[section][field] == value
    assert f"is now config.{key}.\n" in capsys.readouterr().out


def test_old_names_are_taken_in_a_benchmark(capsys):
    flags = ["--config.base.train.patch=32", "--config.rows.dualrel.method.consistency_weight=2"]
    flags += ["--config.rows.cps.method.consistency_weight=3"]
    _, config = parse(["--config=configs/benchmark.py:phantom", "--workdir=x", *flags])
    assert config.base.train.crop_px == 32
    assert config.rows.dualrel.method.prototype_consistency_weight == 2
    assert config.rows.cps.method.consistency_weight == 3
    assert "config.base.train.patch is now config.base.train.crop_px.\n" in capsys.readouterr().out


def test_a_field_of_another_version_is_named_with_its_file(tmp_path):
    config = json.loads(config_lib.resolve(config_lib.get_config("dualrel:phantom,4")).to_json())
    config["train"]["of_tomorrow"] = 1
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="config.json has the field train.of_tomorrow, which this version"):
        config_lib.load(path)
