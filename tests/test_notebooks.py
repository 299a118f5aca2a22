"""The notebooks of colab/: clean as they stand, and run from top to bottom at sizes of a test."""

import os
import re
import tomllib
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).parent.parent / "colab"
PARAMETERS = {  # what a test puts in the place of a notebook's cell of parameters
    "01_quickstart_tpu": "steps = 4",
    "02_train_your_volume": "steps = 4",
    "03_compare_methods": 'steps, seeds, methods = 2, 1, "supervised,dualrel"',
    "04_profile": 'size, steps, traced = "tiny", 4, 2',
}


def address_of_the_repository():
    """As mkdocs.yml has it, in quotes: the one place where it is set, by `make address`."""
    text = (FOLDER.parent / "mkdocs.yml").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith("repo_url:"))


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_notebook_is_clean_and_keeps_the_runtimes_jax(name):
    notebook = read(name)
    nbformat.validate(notebook)
    sources = [cell.source for cell in notebook.cells]
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if "outputs" in cell)
    assert f"repository = {address_of_the_repository()}  #" in "".join(sources), "make address sets it everywhere"
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1
    installs = [line for source in sources for line in source.splitlines() if "%pip install" in line]
    assert installs and all("--no-deps" in line or "--constraint runtime-jax.txt" in line for line in installs)
    # pip keeps an older package of the runtime unless a bound forbids it.
    wanted = {word.strip('"') for line in installs for word in line.split()}
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    bounded = {name: bound for name, bound in (re.match(r"([\w-]+)(.*)", line).groups() for line in project) if bound}
    for name in ("flax", "optax", "orbax-checkpoint", "tensorstore", "ml-collections", "tifffile"):
        assert name + bounded[name] in wanted


def test_every_notebook_is_tested():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(PARAMETERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_notebook_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8")  # a TPU v2-8
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = read(name)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = PARAMETERS[name]
    nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": tmp_path}}).execute()
    assert notebook.cells[-1].outputs
    wrong = [output.text for cell in notebook.cells for output in cell.get("outputs", []) if "dualrel: " in str(output)]
    assert not wrong, wrong
