"""The YAML file that describes the Slurm jobs of a cluster, for dask-jobqueue."""

import difflib
import os
from pathlib import Path
from typing import Any

from dualrel_jax.errors import InputError

_TEXT, _TEXTS, _COUNT = "a text", "a list of texts", "a whole number above 0"
# key -> what its value is. All but `jobs` have the names and meanings of dask_jobqueue.SLURMCluster.
KEYS = {
    "jobs": _COUNT,
    "cores": _COUNT,
    "memory": _TEXT,
    "queue": _TEXT,
    "account": _TEXT,
    "walltime": _TEXT,
    "job_extra_directives": _TEXTS,
    "job_directives_skip": _TEXTS,
    "job_script_prologue": _TEXTS,
    "log_directory": _TEXT,
    "local_directory": _TEXT,
    "shared_temp_directory": _TEXT,
    "interface": _TEXT,
    "python": _TEXT,
}
NEEDED = ("jobs", "cores", "memory")
EXAMPLES = {"jobs": "8", "cores": "8", "memory": "32GB", "walltime": '"04:00:00"'}


def read_slurm_settings(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, checked: those of `KEYS`, with `NEEDED` among them.

    Raises:
        InputError: the file cannot be read, is no YAML, lacks a key, or has a wrong key or value.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--cluster={path} cannot be read ({error.strerror}); check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"--cluster={path} is not YAML ({' '.join(str(error).split())}); expected key: value."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"--cluster={path} holds no settings; expected lines such as jobs: 8 ({', '.join(KEYS)}).")
    for key, value in content.items():
        _check(path, str(key), value)
    for key in NEEDED:
        if key not in content:
            raise InputError(f"--cluster={path} lacks {key}; add a line such as {key}: {EXAMPLES[key]}.")
    for key in ("log_directory", "local_directory", "shared_temp_directory"):
        if key in content:
            content[key] = os.path.expanduser(content[key])
    return content


def _check(path: Path, key: str, value: Any) -> None:
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, 1)
        advice = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(KEYS)}."
        raise InputError(f"--cluster={path} has the key {key!r}, which is not known; {advice}")
    kind = KEYS[key]
    if kind is _COUNT:
        fits = isinstance(value, int) and not isinstance(value, bool) and value > 0
    elif kind is _TEXTS:
        fits = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    else:
        fits = isinstance(value, str)
    if not fits:
        example = f", such as {key}: {EXAMPLES[key]}" if key in EXAMPLES else ""
        quotes = " in quotes" if kind is _TEXT else ""
        raise InputError(f"--cluster={path} has {key} = {value!r}; expected {kind}{quotes}{example}.")
