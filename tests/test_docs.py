"""README and guides: links lead somewhere, fields exist, commands are understood, and the path for own volumes runs."""

import re
import shlex
from pathlib import Path

import pytest
import tifffile

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax import main
from dualrel_jax.benchmark import __main__ as benchmark

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "perf" / "README.md", *sorted((ROOT / "results").rglob("*.md"))]


def commands(page):
    """Words of each command in the page's blocks of shell, without comments; not those with a PLACEHOLDER."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and not re.search(r"\b[A-Z]{3,}\b", line.partition("#")[0]):
                yield words


def flags_of(module):
    """What the pages' commands give to the program of this module."""
    for page in PAGES:
        for words in commands(page):
            if words[0] == "dualrel":
                words = ["python", "-m", "dualrel_jax.main", *words[1:]]
            if words[:3] == ["python", "-m", module]:
                yield words[3:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert re.match(r"https?://", target) or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if "log" not in page.parts], ids=lambda page: page.name)
def test_fields_exist(page):
    config = dualrel_jax.get_config("dualrel:phantom")
    for section, field in re.findall(r"--config\.(\w+)\.(\w+)=", page.read_text().replace("config.base.", "config.")):
        assert section == "rows" or field in config[section], f"--config.{section}.{field}"


def test_commands_are_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = list(flags_of("dualrel_jax.main"))
    assert len(seen) > 12
    for argv in seen:
        workdir = next((word for flag, word in zip(argv, argv[1:], strict=False) if flag == "--workdir"), "none")
        Path(workdir).mkdir(parents=True, exist_ok=True)
        config_lib.save(config_lib.resolve(dualrel_jax.get_config("dualrel:phantom")), Path(workdir, "config.json"))
        main.parse(argv)
    comparisons = list(flags_of("dualrel_jax.benchmark"))
    assert len(comparisons) > 1
    for argv in comparisons:
        benchmark.parse(argv)


@pytest.mark.slow
def test_the_readmes_path_for_an_own_volume_runs(tmp_path, monkeypatch, volume_files):
    """Its commands one after the other, as they stand but for the size of the training."""
    monkeypatch.chdir(tmp_path)
    image, label = (tifffile.imread(volume_files[f"train_{kind}"]) for kind in ("image", "label"))
    tifffile.imwrite("volume.tif", image)
    Path("masks").mkdir()
    for z in (1, 4, 7, 10):
        tifffile.imwrite(f"masks/{z:04d}.tif", label[z])
    section = (ROOT / "README.md").read_text().partition("## Your own volume")[2].partition("\n## ")[0]
    page = tmp_path / "page.md"
    page.write_text(section)
    for words in commands(page):
        small = ["train.steps=4", "train.crop_px=32", "model.width=4", "model.depth=2", "train.optimizer=adamw"]
        small += ["data.pixel_nm=0"]  # the volume is 0.4 µm wide
        small = [f"--config.{field}" for field in small] if "--config" in words else []
        assert main.main([*words[1:], *small]) == 0, words
    run = tmp_path / "runs" / "mine"
    for left in ("prediction/mask.tif", "instances/instances.csv", "report.html", "suggestions/suggestions.csv"):
        assert (run / left).stat().st_size > 0
    assert tifffile.imread(run / "prediction" / "mask.tif").shape == image.shape
