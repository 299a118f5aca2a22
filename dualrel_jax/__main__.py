"""The program `dualrel`, which is `python -m dualrel_jax`: answers signals before it imports the command line."""

import sys

from dualrel_jax.utils.interrupt import end_at_once


def main() -> int:
    end_at_once()
    from dualrel_jax.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
