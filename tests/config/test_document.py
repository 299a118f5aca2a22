"""The page of all fields, and the help for one of them."""

import re
from pathlib import Path

import pytest
from dualrel_jax.configs import base

from dualrel_jax import cli, main
from dualrel_jax import config as config_lib
from dualrel_jax.config import document, schema
from dualrel_jax.constants import METHOD_TITLES, SECTIONS

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_fields_say():
    """After a change of a field: python -m dualrel_jax.config --markdown > docs/configuration.md"""
    assert PAGE.read_text() == document.markdown()


def test_the_page_has_every_field_on_short_lines():
    page = PAGE.read_text()
    assert max(map(len, page.splitlines())) <= 100
    for method in schema.method_names():
        for key in schema.fields_of(method):
            assert f"- `{key.rpartition('.')[2]}` (" in page


def test_every_section_has_a_title_in_the_order_of_the_fields():
    assert [name for name, entry in base.FIELDS.items() if not isinstance(entry, schema.Field)] == list(SECTIONS)


def test_every_config_of_a_method_has_the_name_that_titles_and_help_know_it_by():
    assert set(METHOD_TITLES) == set(schema.method_names())
    assert all(config_lib.get_config(name).method.name == name for name in METHOD_TITLES)
    assert all(name in cli.help_of("train") for name in METHOD_TITLES)


def test_help_names_the_fields_of_a_topic(capsys):
    assert main.main(["--help", "config.train.steps"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "config.train.steps" and "1 to 100,000,000" in printed
    assert "Default: 2000, 8000, 40000 for tiny, small, base." in printed and len(printed.splitlines()) == 2
    assert main.main(["--help", "config.train"]) == 0
    printed = capsys.readouterr().out
    assert "config.train.learning_rate" in printed and "config.predict" not in printed
    assert main.main(["--help=config.method.consistency_weight"]) == 0
    printed = capsys.readouterr().out
    assert "(cps)" in printed and "(mean_teacher)" in printed


def test_the_prediction_heads_of_each_method_are_listed(capsys):
    assert main.main(["--help", "config.predict.prediction_head"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    page = " ".join(PAGE.read_text().split())
    for method in schema.method_names():
        entry = schema.fields_of(method)["predict.prediction_head"]
        (of_method,) = [part for part in printed.split("config.predict.") if re.search(rf"[( ]{method}[,)]", part)]
        assert f"Allowed: {entry.limits()}." in of_method
        own = page.partition(f"of `configs/{method}.py`")[2].partition(" ## ")[0]
        assert len(entry.choices) == 2 or re.search(rf"- `predict.prediction_head` .*Allowed: {entry.limits()}\.", own)


def test_help_for_a_field_that_does_not_exist_names_the_nearest(capsys):
    assert main.main(["--help", "config.train.step"]) == 2
    assert "no field train.step; did you mean config.train.steps?" in capsys.readouterr().err


def test_a_section_on_the_command_line_is_explained(capsys):
    assert main.main(["--config=configs/dualrel.py:phantom", "--workdir=x", "--config.train=1"]) == 2
    assert "config.train is a section; name one of its fields, such as --config.train." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("steps", "train.steps"), ("predict.treshold", "predict.threshold"), ("model.crop_px", "train.crop_px")],
)
def test_a_wrong_name_on_the_command_line_names_the_nearest(key, nearest, capsys):
    assert main.main(["--config=configs/dualrel.py:phantom", "--workdir=x", f"--config.{key}=1"]) == 2
    assert f"The config has no field {key}; did you mean config.{nearest}?" in capsys.readouterr().err
