"""README, guides and results: they fit a page, links lead somewhere, and commands are understood and run."""

import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tifffile
from dualrel_jax.configs import base

import dualrel_jax
from dualrel_jax import cli, main
from dualrel_jax import config as config_lib
from dualrel_jax.benchmark import __main__ as benchmark
from dualrel_jax.constants import SECTIONS
from dualrel_jax.data.datasets.public import LAYOUTS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "perf" / "README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "results").rglob("*.md"))
FILE_ENDINGS = ("py", "tif", "csv", "json", "png", "stablehlo")
MAX_LINES = {  # else 170
    "README.md": 120,
    "docs/method.md": 350,
    "docs/configuration.md": 400,
    "results/log/README.md": 400,
}


def name_of(page):
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def lines_outside_code(page):
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL).splitlines()


def anchors(page):
    """Anchors of the headings as GitHub makes them."""
    headings = [line.lstrip("#").strip() for line in lines_outside_code(page) if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page):
    """Words of each command in the page's blocks of shell, without comments; not those with a PLACEHOLDER."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = list(itertools.dropwhile(re.compile("[A-Z_]+=").match, shlex.split(line, comments=True)))
            if words and not re.search(r"\b[A-Z]{3,}\b", line.partition("#")[0]):
                yield words


def program(words):
    """(module or program, its arguments) of a command."""
    if words[0] == "dualrel":
        return ("dualrel_jax.main" if words[1].startswith("-") else "dualrel_jax.cli"), words[1:]
    if words[:2] == ["python", "-m"]:
        return words[2], words[3:]
    return words[0], words[1:]


PARSERS = {"dualrel_jax.main": main, "dualrel_jax.cli": cli}


def run_folder(words):
    """The folder of the run that a command is about; None without one."""
    if "--workdir" in words:
        return words[words.index("--workdir") + 1]
    return next((word for word in words[2:3] if words[0] == "dualrel" and not word.startswith("-")), None)


def starts_a_run(words):
    return words[0] == "dualrel" and ("--config" in words or words[1] == "train")


@each_page
def test_a_page_fits(page):
    lines = page.read_text().splitlines()
    assert len(lines) <= MAX_LINES.get(name_of(page), 170)
    assert [line for line in lines if len(line) > 100] == []
    assert [line for line in lines if line != line.rstrip()] == []
    rows = [line.replace(r"\|", "") for line in lines if line.startswith("|")]
    assert [row for row in rows if row.count("|") > 7] == [], "a table has at most six columns"


@each_page
def test_links_and_anchors_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", "\n".join(lines_outside_code(page))):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("path", [*PAGES, *sorted((ROOT / "colab").glob("*.ipynb"))], ids=name_of)
def test_no_placeholder_of_an_address_is_left(path):
    assert not re.search(r"<owner>|OWNER|example\.com|YOUR_NAME", path.read_text())


@pytest.mark.parametrize("path", [*PAGES, *sorted((ROOT / "colab").glob("*.ipynb"))], ids=name_of)
def test_fields_exist(path):
    if name_of(path).startswith("results/log/"):  # fields of their own revision
        return
    config = dualrel_jax.get_config("dualrel:phantom")
    text = path.read_text().replace("config.base.", "config.")
    for section, field in re.findall(r"config\.(\w+)\.(\w+) ?=", text):
        assert section == "rows" or field in config[section], f"--config.{section}.{field}"
    for section, field in re.findall(rf"`({'|'.join(SECTIONS)})\.(\w+)[`=]", text):
        assert field in config[section] or field in FILE_ENDINGS, f"{section}.{field}"


@each_page
def test_commands_are_understood(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(page):
        name, arguments = program(words)
        if name in PARSERS:
            workdir = Path(run_folder(words) or "none")
            if not starts_a_run(words) and "doctor" not in words:
                workdir.mkdir(parents=True, exist_ok=True)
                config_lib.save(config_lib.resolve(dualrel_jax.get_config("dualrel:phantom")), workdir / "config.json")
            if "--help" not in arguments:
                PARSERS[name].parse(arguments)
        elif name == "dualrel_jax.benchmark":
            benchmark.parse(arguments)
        elif name in ("pip", "pip3"):
            assert all(extra in extras for extra in re.findall(r"\[(\w+)\]", " ".join(arguments)))
        elif name == "make":
            assert arguments and set(arguments) <= set(targets)
        elif "." in name or name == "perf":
            path = ROOT.joinpath(*name.split("."))
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
        else:
            assert name in (
                "python3",
                "napari",
                "taskset",
                "pytest",
                "ruff",
                "git",
                "gcloud",
                "dask",
                "sbatch",
                "hf",
            ), words


def test_the_files_that_contributing_names_exist():
    table = re.findall(r"^\| .+ \| `(\S+?)`", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(table) > 5
    assert [path for path in table if not (ROOT / path).exists()] == []


# What makes the commands of the pages quick; the tiny volume is 0.4 µm wide.
SMALL = ("train.steps=4", "train.crop_px=32", "model.width=4", "model.depth=2", "model.dtype=float32")
SMALL += ("train.optimizer=adamw", "train.batch_labelled=4", "train.batch_unlabelled=4", "profile.start_step=2")
SMALL_BENCHMARK = ("--config.only=supervised", "--config.seeds=1", "--config.labelled=1/32", "--config.bounds=False")
OWN_FILES = "--image volume.tif --labels masks --voxel-nm 30,8,8"
NOT_RUN = ("--points", "download", "--coordinator", "gcloud")  # needs a person, a network, or several machines
QUICK = ("--help", "doctor")  # of any page, in the default tests


def made_small(words):
    """A command as it stands on a page -> the program and its arguments, with a training of four steps."""
    name, arguments = program(words)
    if name in PARSERS and (starts_a_run(words) or "doctor" in words):
        own = ["data.pixel_nm=0"] if {"--image"} & set(words) or any(":own" in word for word in words) else []
        arguments = [*arguments, *(f"--config.{field}" for field in (*SMALL, *own))]
    if name == "dualrel_jax.benchmark":
        arguments = [*arguments, *SMALL_BENCHMARK, *(f"--config.base.{field}" for field in SMALL)]
    return name, arguments


def run(words):
    name, arguments = made_small(words)
    if name in PARSERS:
        assert PARSERS[name].main(arguments) == 0, words
    elif name in ("dualrel_jax.benchmark", "dualrel_jax.data.phantom", "dualrel_jax.training.profiling"):
        subprocess.run(
            [sys.executable, "-m", name, *arguments], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )


@pytest.fixture
def desk(tmp_path, monkeypatch, volume_files):
    """A working directory with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    image, label = (tifffile.imread(volume_files[f"train_{kind}"]) for kind in ("image", "label"))
    tifffile.imwrite("volume.tif", image)
    for name in ("test_mask.tif", "true_mask.tif"):
        tifffile.imwrite(name, label)
    tifffile.imwrite("test.tif", image)
    Path("masks").mkdir()
    for z in (1, 4, 7, 10):
        tifffile.imwrite(f"masks/{z:04d}.tif", label[z])
    return tmp_path


def test_quick_commands_of_all_pages_run(desk, capsys):
    seen = {tuple(words) for page in PAGES for words in commands(page) if set(QUICK) & set(words)}
    assert len(seen) > 1
    for words in sorted(seen):
        if not any("phantom" in word for word in words):
            run(list(words))
    assert "labelled slices" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "docs"], ids=name_of)
def test_commands_of_a_guide_run(page, desk):
    """One after the other, as they stand but for the size of the training; the runs they start from are trained."""
    words = list(commands(page))
    started = {run_folder(w) for w in words if starts_a_run(w)}
    text = page.read_text()
    for folder, data in (("runs/mine", "own"), ("runs/demo", "phantom")):
        if folder in text and folder not in started:
            files = OWN_FILES if data == "own" else ""
            run(shlex.split(f"dualrel train {folder} --data {data} --labelled 4 {files}"))
        if "dualrel instances" in text and folder == "runs/mine" and folder not in started:
            run(shlex.split(f"dualrel predict {folder} volume.tif"))
    for command in words:
        if not any(part in word for word in command for part in NOT_RUN):
            run(command)


@pytest.mark.slow
def test_the_readmes_path_for_an_own_volume_runs(desk):
    section = (ROOT / "README.md").read_text().partition("## Your own volume")[2].partition("\n## ")[0]
    page = desk / "page.md"
    page.write_text(section)
    for words in commands(page):
        run(words)
    left = desk / "runs" / "mine"
    for name in ("prediction/mask.tif", "instances/instances.csv", "report.html", "suggestions/suggestions.csv"):
        assert (left / name).stat().st_size > 0
    assert tifffile.imread(left / "prediction" / "mask.tif").shape == tifffile.imread("volume.tif").shape


def test_the_sizes_that_scaling_names_are_those_of_the_presets():
    rows = re.findall(
        r"^\| `(\w+)` \| .* \| (\d+) px of (\d+) nm \| ([\d,]+) \| (\d+) \+ (\d+) \|$",
        (ROOT / "docs" / "scaling.md").read_text(),
        re.MULTILINE,
    )
    assert {row[0] for row in rows} == set(base.SIZES)
    keys = ("train.crop_px", "data.pixel_nm", "train.steps", "train.batch_labelled", "train.batch_unlabelled")
    for name, *values in rows:
        assert [int(value.replace(",", "")) for value in values] == [base.SIZES[name][key] for key in keys], name


def rows_of(page, name):
    """The cells of the row of data set `name` in each table of a page."""
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| `")]
    return [row[1:] for row in rows if f"`{name}`" in row[0]]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_pages_describe_every_public_data_set(layout):
    [(_, voxel, source)] = rows_of(ROOT / "docs" / "datasets.md", layout.name)
    assert voxel == " x ".join(f"{size:g}" for size in layout.voxel_nm)
    assert source == ("download" if layout.remotes else "by hand")
    (train, validation, _), *_ = rows_of(ROOT / "docs" / "evaluation.md", layout.name)
    assert train.startswith(layout.train) and validation == layout.validation


def test_every_command_is_on_a_page_and_in_the_help():
    pages = "".join(page.read_text() for page in PAGES if "log" not in page.parts)
    assert [name for name in cli.COMMANDS if f"dualrel {name}" not in pages] == []
    assert [mode for mode in main.MODES if f"--mode={mode}" not in main.__doc__ and "train" not in mode] == []
