"""The short commands as a person meets them: help, what they set, and what they print to wrong words."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import dualrel_jax
from dualrel_jax import cli
from dualrel_jax import config as config_lib
from dualrel_jax import main as long_form
from dualrel_jax.config.schema import fields_of
from dualrel_jax.errors import InputError


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """runs/mine as a training left it, in the working directory; its config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    config = dualrel_jax.get_config("cps:own")
    config.data.image, config.data.label = "volume.tif", "masks"
    config_lib.save(config_lib.resolve(config), tmp_path / "runs" / "mine" / "config.json")
    return config


def refused(capsys, line):
    """Runs a command that must be refused with one sentence and exit code 2; -> the sentence."""
    assert cli.main(line.split()) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("dualrel: ")
    return sentence


def test_the_list_of_commands_needs_neither_jax_nor_a_config():
    code = "import sys; from dualrel_jax import cli; cli.main([]); print({'jax', 'numpy', 'absl'} & set(sys.modules))"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.endswith("set()\n")
    assert all(f"  {name}" in printed for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_explains_its_options_and_its_example_works(name, run_folder, capsys):
    command = cli.COMMANDS[name]
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert command.example in text
    for flag, key in command.options.items():
        assert flag in text and fields_of("dualrel")[key].meaning.split()[0].lower() in text.lower()
    options, _ = cli.parse(command.example.split()[1:])
    assert options.mode == command.mode


def test_every_mode_has_a_command():
    assert set(long_form.MODES) - {command.mode for command in cli.COMMANDS.values()} == {"train"}


def test_train_sets_what_the_long_form_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = "train runs/new --image volume.tif --labels masks --voxel-nm 30,8,8 --set train.crop_px=128 --seed 3"
    long = "--config configs/dualrel.py:own,all --workdir runs/new --config.data.image=volume.tif "
    long += "--config.data.label=masks --config.data.voxel_nm=30,8,8 --config.train.crop_px=128 --config.seed=3"
    (options, config), (same_options, same_config) = cli.parse(short.split()), long_form.parse(long.split())
    assert config.to_dict() == same_config.to_dict()
    assert options.flag_values_dict() == same_options.flag_values_dict()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("set data.label_kind=instances, or", "set --label-kind instances, or"),
        ("--config.data.voxel_nm=z,y,x in nm", "--voxel-nm z,y,x in nm"),
        ("data.validation_region=none keeps", "--set data.validation_region=none keeps"),
        ("such as --set train.steps=500.", "such as --steps 500."),
        ("config.data.voxel_nm is 5", "--voxel-nm is 5"),
        ("exchange data.image and data.label.", "exchange --image and --labels."),
        ("(from data.voxel_nm)", "(from --voxel-nm)"),
        ("or set data.label_kind or data.ignore_value", "or set --label-kind or --ignore-value"),
        ("or set data.pipeline=resident if", "or use --set data.pipeline=resident if"),
        ("--config.data.pixel_nm may be larger", "--set data.pixel_nm may be larger"),
        ("lower config.train.crop_px", "lower train.crop_px"),
        ("config.augment.blur_px is 99", "augment.blur_px is 99"),
        ("config.profile.num_steps is 0", "profile.num_steps is 0"),
        ("config.method.dim is 0", "method.dim is 0"),
        ("--config.method.dim=4", "--set method.dim=4"),
        ("runs/data.image and ../data.label.tif are", "runs/data.image and ../data.label.tif are"),
        ("choose another --workdir", "choose another RUN folder"),
    ],
)
def test_errors_of_short_commands_name_their_options(text, said):
    assert cli.as_options(text, "train") == said


def test_lines_that_short_commands_print_name_their_options(volume_files, small_config, trained, tmp_path, capsys):
    image, label = (str(volume_files[f"train_{kind}"]) for kind in ("image", "label"))
    words = ["doctor", str(tmp_path / "doctor"), "--set", "train.crop_px=32"]
    assert cli.main([*words, "--image", label, "--labels", image]) == 0
    said = capsys.readouterr().out
    assert "exchange --image and --labels." in said and "data." not in said
    assert cli.main([*words, "--image", image, "--labels", label, "--voxel-nm", "30,8,8"]) == 0
    said = capsys.readouterr().out
    assert "(from --voxel-nm)" in said and "(--set data.validation_region=none keeps" in said
    assert not re.search(r"config\.[a-z]|(?<!--set )data\.[a-z]", said)
    assert cli.main(["predict", str(trained[0]), image, "--domain", "training"]) == 0
    said = capsys.readouterr().out
    assert "--domain is training" in said and "--domain other chooses otherwise; so do --set predict.pred" in said
    assert "--threshold, --foreground-fraction and --planes" in said and "config." not in said


def test_instances_follow_a_prediction_that_was_written_elsewhere(volume_files, trained, tmp_path, capsys):
    """As `dualrel --help` shows the two."""
    run, mask = trained[0], tmp_path / "elsewhere" / "mask.zarr"
    mask.parent.mkdir()
    words = [str(volume_files["test_image"]), "-o", str(mask), "--voxel-nm", "10,5,5"]
    assert cli.main(["predict", str(run), *words]) == 0
    capsys.readouterr()
    assert cli.main(["instances", str(run), "--threshold", "0.99"]) == 0
    said = capsys.readouterr().out
    assert "mask_probability.zarr: no instance; lower --threshold, --min-um3 or --min-probability." in said


@pytest.mark.parametrize("flag", ["--points a.csv", "--foreground-fraction 0.05", "--threshold 0.3"])
def test_a_threshold_that_is_typed_replaces_that_of_the_run(flag, run_folder):
    run_folder.predict.threshold = 0.6
    config_lib.save(config_lib.resolve(run_folder), Path("runs/mine/config.json"))
    _, config = cli.parse(f"predict runs/mine v.tif {flag}".split())
    found = config.predict.threshold, config.predict.foreground_fraction, config.predict.points
    assert found == {"--p": (0.0, 0.0, "a.csv"), "--f": (0.0, 0.05, ""), "--t": (0.3, 0.0, "")}[flag[:3]]
    with pytest.raises(InputError, match="expected one of them"):
        cli.parse("predict runs/mine v.tif --points a.csv --threshold 0.4".split())


def test_a_run_alone_continues_with_its_config(run_folder):
    for line in ("train runs/mine", "doctor runs/mine", "predict runs/mine volume.zarr -o mask.zarr --region 1:2,,"):
        _, config = cli.parse(line.split())
        assert (config.method.name, config.data.image) == ("cps", "volume.tif"), line
    assert (config.predict.input, config.predict.output) == ("volume.zarr", "mask.zarr")
    assert config.predict.region == "1:2,,"
    _, config = cli.parse("train runs/mine --method dualrel --image volume.tif".split())
    assert config.method.name == "dualrel"  # which the training refuses there


def test_a_config_file_reproduces_a_run(run_folder, tmp_path):
    for source in ("runs/mine", "runs/mine/config.json"):
        _, config = cli.parse(f"train runs/new --config {source}".split())
        assert not config_lib.difference(config_lib.resolve(run_folder), config_lib.resolve(config))
    _, config = cli.parse("train runs/new --config runs/mine --size small --seed 4".split())
    assert (config_lib.resolve(config).model.depth, config.seed) == (5, 4)
    _, config = cli.parse("train runs/new --config configs/cps.py:phantom,5".split())
    assert (config.method.name, config.data.labelled) == ("cps", "5")


def test_init_brings_the_network_of_its_run(run_folder):
    config = dualrel_jax.get_config("cps:own")
    config.size, config.model.width = "small", 24
    config_lib.save(config_lib.resolve(config), Path("runs/mine/config.json"))
    _, config = cli.parse("train runs/new --init runs/mine --image v.tif --labels m --steps 200".split())
    config = config_lib.resolve(config)
    assert (config.method.name, config.size, config.model.width, config.model.stem) == ("dualrel", "small", 24, 1)
    assert (config.data.pixel_nm, config.train.steps, config.train.init) == (8, 200, "runs/mine")


def test_a_yaml_file_holds_some_fields(run_folder, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "method: cps\nsize: small\ndata:\n  image: volume.tif\n  label: masks\n  voxel_nm: [30, 8, 8]\n"
        "  validation_region: 10:12\naugment:\n  scale: [0.7, 1.4]\n  flips: false\ntrain: {patch: 128}\n"
    )
    _, config = cli.parse("train runs/new --config mine.yaml".split())
    assert (config.method.name, config.size, config.data.name, config.data.labelled) == ("cps", "small", "own", "all")
    assert (config.data.voxel_nm, config.data.validation_region) == ("30,8,8", "10:12")
    assert (config.augment.scale, config.augment.flips, config.train.crop_px) == ((0.7, 1.4), False, 128)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("trian runs/mine", "no command 'trian'; did you mean dualrel train?"),
        ("runs/mine predict", "command comes first: dualrel predict runs/mine"),
        ("fly runs/mine", "no command 'fly'; expected doctor, train"),
        ("predict", "dualrel predict needs RUN, such as dualrel predict runs/mine"),
        ("predict nowhere volume.tif", "nowhere holds no finished or started run"),
        ("predict runs/mine --treshold 0.4", "no option --treshold; did you mean --threshold?"),
        ("predict runs/mine --clster local:2", "did you mean --cluster?"),
        ("predict runs/mine --orthogonal-planes", "did you mean --planes VALUE?"),  # its name before
        ("predict runs/mine --output", "argument --output/-o: expected one argument"),
        ("train runs/new --lables masks", "no option --lables; did you mean --labels?"),
        ("train runs/new --crop-px 64", "did you mean --set train.crop_px=VALUE?"),
        ("train runs/new --frobnicate 64", "no option --frobnicate; see dualrel train --help"),
        ("train runs/new", "nothing to train on.*--image volume.tif --labels masks"),
        ("train runs/new --data lucky", "lucky.*expected.*lucchi"),
        ("doctor --data phantom --image a.tif", "--data is phantom, which has a volume of its own, and --image a.tif"),
        ("train runs/new --image a.tif --set train.steps", "'train.steps'; expected FIELD=VALUE"),
        ("train runs/new --image a.tif --set train.stepz=5", "no field train.stepz; did you mean --steps"),
        ("train runs/new --image a.tif --steps many", "--steps is 'many'; expected a whole number"),
        ("train runs/new --image a.tif --method magic", "magic.*configs/dualrel.py"),
        ("train runs/new --config nothing.json", "There is no config nothing.json"),
        ("train runs/new --config runs/mine --method dualrel", "--method is dualrel, but runs/mine is a config of cps"),
        ("predict runs/mine a.tif b.tif", "'b.tif' is one word too many"),
        ("download", "dualrel download needs"),
    ],
)
def test_wrong_words_are_explained(line, sentence, run_folder, capsys):
    assert re.search(sentence, refused(capsys, line))


@pytest.mark.parametrize(
    ("line", "said", "command"),
    [
        ("predict em.tif", "em.tif is a file, not the folder", "predict runs/mine em.tif"),
        ("predict 'my em.tif'", "my em.tif is a file, not the folder", "predict runs/mine 'my em.tif'"),
        ("predict em.tif runs/mine", "em.tif is a file", "predict runs/mine em.tif"),
        ("predict em.zarr", "em.zarr is a volume, not the folder", "predict runs/mine em.zarr"),
        ("predict runs/mine/config.json em.tif", "config.json is a file", "predict runs/mine"),
        ("instances em.tif", "em.tif is a file", "instances runs/mine em.tif"),
        ("evaluate em.tif", "em.tif is a file", "evaluate runs/mine --image em.tif"),
        ("train em.tif --labels masks", "em.tif is a file", "train runs/mine --image em.tif"),
    ],
)
def test_a_volume_in_place_of_the_run_is_told_from_a_folder_without_one(line, said, command, run_folder, capsys):
    for name in ("em.tif", "my em.tif"):
        Path(name).touch()
    Path("em.zarr").mkdir()
    assert cli.main(shlex.split(line)) == 2
    sentence = capsys.readouterr().err.strip()
    assert said in sentence and sentence.endswith(f": dualrel {command}")


def test_commands_that_are_suggested_can_be_pasted(run_folder, capsys):
    """A folder with a space in its name is one word of them."""
    Path("runs/mine").rename("my run")
    Path("my run/run.json").write_text("{}")
    for line in ("predict 'my run' em.tif", "instances 'my run'", "suggest 'my run' --points 3"):
        Path("em.tif").exists() or tifffile.imwrite("em.tif", np.zeros((2, 8, 8), np.uint8))
        assert cli.main(shlex.split(line)) == 2
        sentence = capsys.readouterr().err
        assert re.search(r"\(dualrel (train|predict) 'my run'( VOLUME)?\)", sentence), sentence


@pytest.mark.parametrize(
    "text", ["[1, 2]", "data: {image: [", "method: [cps]", "data: volume.tif", "train: {setps: 5}"]
)
def test_a_yaml_file_that_is_no_config_is_explained(text, run_folder, tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text(text)
    refused(capsys, "train runs/new --config wrong.yaml")


@pytest.mark.parametrize(
    ("line", "word"), [("pre", "predict"), ("train x --vox", "--voxel-nm"), ("train x --size t", "tiny")]
)
def test_the_shell_completes_commands_options_and_choices(line, word, tmp_path):
    pytest.importorskip("argcomplete")
    line, answer = f"dualrel {line}", tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked["_ARGCOMPLETE_STDOUT_FILENAME"] = str(answer)
    code = "from dualrel_jax.cli import main; main()"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, check=True)
    assert word in answer.read_text()
