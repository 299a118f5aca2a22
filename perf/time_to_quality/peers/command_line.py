"""The command line that all peers have. They run in environments of their own: the standard library has to do."""

import argparse
from pathlib import Path


def parse(description: str, *switches: str) -> argparse.Namespace:
    """The words of a peer: its action, folders as absolute paths, steps, and `switches` that only some have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("action", choices=("train", "predict"))
    parser.add_argument("--task", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--work", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--output", type=lambda path: Path(path).resolve())
    for switch in switches:
        parser.add_argument(switch, action="store_true")
    return parser.parse_args()
