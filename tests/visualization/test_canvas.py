import subprocess
import sys
from pathlib import Path


def test_import_leaves_matplotlib_alone():
    modules = "overlays, paper_figures, plots, prototype_maps, svg_charts"
    code = f"import sys; from dualrel_jax.visualization import {modules}; sys.exit('matplotlib' in sys.modules)"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
