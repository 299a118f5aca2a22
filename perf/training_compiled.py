"""A training step of ours against its PyTorch twin compiled by `torch.compile`, which alone takes minutes to begin."""

import functools
import sys

from perf import training
from perf.report import command

if __name__ == "__main__":
    sys.exit(command(functools.partial(training.main, compiled=True)))
