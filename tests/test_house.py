"""Imports only go down the floors of the house; some libraries have one room each; files and functions are short."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "dualrel_jax"
# From the top floor down. A module may import from its own floor, without a circle, and from those below.
FLOORS = (
    ("__main__", "benchmark", "napari_plugin"),
    ("cli",),
    ("main",),
    ("doctor", "evaluate", "export", "figures", "predict", "report", "segment_instances", "suggest", "train"),
    ("packaging",),
    ("inference",),
    ("training",),
    ("methods",),
    ("models",),
    ("instances",),
    ("data.checks",),
    ("data.pipeline",),
    ("data.datasets",),
    ("data.phantom",),
    ("data.io",),
    ("metrics", "visualization"),
    ("config", "configs"),
    ("utils",),
    ("commands", "constants", "errors", "starter"),
)
HOMES = {  # library -> the only places that import it
    "orbax": ("training.checkpoint",),
    "dask": ("inference.cluster",),
    "distributed": ("inference.cluster",),
    "tensorflow": ("data.pipeline.tf_data", "data.datasets.tfds"),
    "tensorflow_datasets": ("data.datasets.tfds",),
    "torch": (),
    "napari": ("napari_plugin",),
    "jinja2": ("visualization.report_page",),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in ROOT.rglob("*.py")}


@functools.cache
def imports(path: Path) -> set[str]:
    """All absolute names that a file imports, at its top or inside functions: `package.module[.name]`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def own_imports(module: str) -> set[str]:
    """The modules of this package that `module` imports."""
    found = set()
    for name in imports(MODULES[module]):
        package, _, rest = name.partition(".")
        if package == "dualrel_jax" and not rest.startswith("configs"):
            # `from package import module`, else `from module import name`; "" is the package itself.
            found.add(rest if rest in MODULES else rest.rpartition(".")[0])
    return found - {module}


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def floor(module: str) -> int:
    floors = [i for i, rooms in enumerate(FLOORS) if any(within(module, room) for room in rooms)]
    assert len(floors) == 1, f"{module} is in no room of FLOORS, or in several"
    return floors[0]


NAMED = sorted(name for name in MODULES if name and name != "data")  # without the two packages that hold nothing


@pytest.mark.parametrize("module", NAMED)
def test_imports_go_down(module):
    up = sorted(name for name in own_imports(module) if name and floor(name) < floor(module))
    assert not up, f"{module} imports from above: {', '.join(up)}"


def test_no_module_imports_itself_by_way_of_others():
    graphlib.TopologicalSorter({module: own_imports(module) for module in NAMED}).prepare()  # CycleError


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_in_its_home_alone(library):
    users = {module for module in MODULES if any(within(name, library) for name in imports(MODULES[module]))}
    assert {user for user in users if not any(within(user, home) for home in HOMES[library])} == set()


MOST_LINES, MOST_FUNCTION_LINES, MOST_POSITIONAL = 350, 60, 5


@pytest.mark.parametrize("module", NAMED)
def test_files_and_functions_are_short(module):
    text = MODULES[module].read_text()
    assert text.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            positional = [a.arg for a in node.args.posonlyargs + node.args.args if a.arg not in ("self", "cls")]
            assert node.end_lineno - node.lineno < MOST_FUNCTION_LINES, f"{node.name} is too long"
            assert len(positional) <= MOST_POSITIONAL, f"{node.name} takes {len(positional)} positional arguments"
