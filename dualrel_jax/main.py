"""The command line, `dualrel` or `python -m dualrel_jax.main`: flags become one call.

  dualrel --config configs/dualrel.py:phantom,1/32 --workdir runs/demo      train, then score the test volume
  dualrel --config configs/dualrel.py:own,all --workdir runs/mine --mode=doctor ...   check files and machine first
  dualrel --workdir runs/demo --mode=predict --config.predict.input=a.tif   segment a volume with a finished run
  dualrel --workdir runs/demo --mode=instances                              number and measure every mitochondrion of it
  dualrel --workdir runs/demo --mode=suggest                                which slices to label next
  dualrel --workdir runs/demo --mode=evaluate                               score a finished run again
  dualrel --workdir runs/demo --mode=report                                 the run on one page, report.html
  dualrel --workdir runs/demo --mode=export                                 the model as files that need no dualrel_jax
  dualrel --workdir runs/demo --mode=figures --compare=runs/cps             the paper's figures, of one run or several
  dualrel --config configs/dualrel.py:lucchi --mode=download                fetch a public data set

Flags:
  --config METHOD.py:DATA[,LABELLED]  a config file and its argument: the data set (see --help config.data.name)
                      and the labelled slices (1/32, all, or a count).
                      Modes that work on a finished run use the config of that run.
  --config.KEY=VALUE  sets a field. --config.size=tiny|small|base chooses the preset.
  --help config.train lists these fields, with their defaults, units and ranges; --help config lists all.
  --workdir DIR       folder of the run: checkpoints, scores, pictures, masks. The same command continues a killed run.
  --mode MODE         train_and_evaluate (default), train, or one of the modes above.
  --region Z0:Z1,Y0:Y1,X0:X1
                      predict: only this part, in voxels; parts may be left out, as in 10:20
  --cluster WHERE     predict, instances: in tasks, by local:N (processes of this machine), tcp://HOST:PORT (a Dask
                      scheduler) or FILE.yaml (Slurm jobs); see docs/cluster.md. A mask is a .zarr then.
  --compare RUN,RUN   figures: folders of other runs to draw beside it, tested on the same slices.
  --coordinator HOST:PORT --num_processes N --process_id I
                      several hosts: on every host, the address of the first; `auto` on TPU pods and Slurm.
"""

if __name__ == "__main__":  # from the first moment; the imports below take a second
    from dualrel_jax.utils.interrupt import end_at_once

    end_at_once()

import errno
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax import starter
from dualrel_jax.commands import ON_A_CLUSTER
from dualrel_jax.config.overrides import override
from dualrel_jax.errors import InputError
from dualrel_jax.utils import interrupt, streams

MODES = {  # mode -> the function behind it, imported when it runs
    "train_and_evaluate": "train.train_and_evaluate",
    "train": "train.train",
    "doctor": "doctor.examine",
    "evaluate": "evaluate.evaluate",
    "predict": "predict.predict",
    "figures": "figures.write_figures",
    "instances": "segment_instances.segment_instances",
    "suggest": "suggest.suggest",
    "report": "report.write_report",
    "export": "export.write_export",
    "download": "data.datasets.download.download_dataset",
}
# Errors of the system that end a command with a sentence: a full disk, and a path that cannot be used.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BARRED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)
_HOME = re.compile(r"(?<=[=,])~(?=/)")  # in --flag=~/a,~/b, which shells leave as it is
_HELP = re.compile(r"(--?help|-h)(=|$)")
NEED_CONFIG = ("train_and_evaluate", "train", "doctor", "download")  # the others use that of the run in the work folder

SEVERAL_HOSTS = ("train_and_evaluate", "train", "evaluate")


def main(argv: list[str] | None = None) -> int:
    """Runs one command; -> its exit code: 0, 2 after a sentence about what the user gave, 130 or 143 if stopped."""
    words = sys.argv[1:] if argv is None else argv
    return execute(lambda: _main(words), as_program=argv is None)


def _main(argv: list[str]) -> None:
    if (topic := _help_topic(argv)) is not None:
        from dualrel_jax.config.document import describe

        print(describe(topic) if topic else __doc__)
    else:
        run(*parse(argv))


def execute(command: Callable[[], None], as_program: bool) -> int:
    """Runs `command`; -> 0, 2 after a sentence about what the user gave, 130 or 143 if a signal stopped it."""
    streams.make_safe()
    return interrupt.run_command(lambda: _explained(command), as_program)


def _explained(command: Callable[[], None]) -> int:
    try:
        command()
    except InputError as error:
        print(f"dualrel: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno in _FULL:
            where = f" of {error.filename}" if error.filename else ""
            print(f"dualrel: The disk{where} is full; make room and run the same command again.", file=sys.stderr)
        elif error.errno == errno.EFBIG:
            file = error.filename or "A file"
            print(
                f"dualrel: {file} grew larger than the limit on this machine (ulimit -f, or that of the disk); raise "
                "it or choose another disk, and run the same command again.",
                file=sys.stderr,
            )
        elif error.errno in _BARRED and error.filename:
            reason = f"{error.filename} cannot be opened or made ({error.strerror})"
            print(f"dualrel: {reason}; choose another path, or ask for the right to use this one.", file=sys.stderr)
        else:
            raise
        return 2
    return 0


def _help_topic(argv: list[str]) -> str | None:
    """What a command line asks help for, such as `config.train`; empty for all; None if it does not ask."""
    if not argv:
        return ""
    words = [word for word in argv if _HELP.match(word)]
    if not words:
        return None
    after = argv[argv.index(words[0]) + 1 :]
    return words[0].partition("=")[2] or next((word for word in after if word.startswith("config")), "")


def run(options: flags.FlagValues, config: ConfigDict) -> None:
    module, _, function = MODES[options.mode].rpartition(".")
    if options.mode != "download":  # needs no devices
        from dualrel_jax.utils import sharding

        logging.set_verbosity(logging.FATAL)  # Orbax reports every save, and what this package explains
        sharding.cache_compilations()
        sharding.initialize(options.coordinator, options.num_processes, options.process_id)
        interrupt.arm()  # of several hosts, JAX takes SIGTERM for itself
        if options.mode not in ("instances", "report"):  # these need no device, which may be busy
            sharding.check_platform()
    command = getattr(importlib.import_module(f"dualrel_jax.{module}"), function)
    if options.mode == "download":
        command(config.data.name, config.data.dir)
    elif options.mode == "figures":
        command(options.workdir, config, options.compare)
    elif options.mode in ON_A_CLUSTER:
        command(options.workdir, config, cluster=options.cluster)
    elif options.mode in NEED_CONFIG:
        command(config, options.workdir)
    else:
        command(options.workdir, config)


def parse(argv: list[str]) -> tuple[flags.FlagValues, ConfigDict]:
    """The flags and the config of a command line, without the name of the program.

    Raises:
      InputError: an unknown flag or field, a value that its field does not allow, or flags that contradict.
    """
    argv = with_home(argv)
    try:
        options = _flags()
        options(["dualrel", *argv], known_only=True)
        config, words = _read_config(argv, options)
        return complete(config, words)
    except InputError:
        raise
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{_innermost(error)} (see --help).") from error


def complete(config: ConfigDict, words: list[str]) -> tuple[flags.FlagValues, ConfigDict]:
    """The flags among `words`, and `config` with the fields that the others set; locked and checked.

    Raises:
      InputError: as `parse`.
    """
    try:
        config.update(_without_other_thresholds(config, words))
        words = override(config, words)
        options = _flags()
        rest = options(["dualrel", *words])[1:]
    except InputError:
        raise
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{_innermost(error)} (see --help).") from error
    config.lock()
    if rest:
        raise InputError(
            f"{rest[0]!r} is not a flag; flags start with --, and what holds spaces stands in quotes (see --help)."
        )
    _check_options(options)
    if options.region:
        config.predict.region = options.region
    if "size" in config:  # not that of a benchmark
        config_lib.resolve(config)  # before anything is computed
    return options, config


def _without_other_thresholds(config: ConfigDict, words: list[str]) -> dict:
    """What turns off the run's own threshold where the words name another, or what leads to one."""
    automatic = {"threshold": 0.0, "foreground_fraction": 0.0, "points": ""}
    named = {key for key in automatic if any(re.match(rf"--config\.predict\.{key}(=|$)", word) for word in words)}
    off = {key: value for key, value in automatic.items() if named and key not in named}
    return {"predict": off} if "predict" in config else {}


def with_home(words: list[str]) -> list[str]:
    """The words with a home folder for each `~` that a path may begin with."""
    return [_HOME.sub(lambda _: str(Path.home()), word) for word in words]  # a function: backslashes stay


def _check_options(options: flags.FlagValues) -> None:
    """InputError unless the flags go with the mode."""
    if not options.workdir and options.mode != "download":
        raise InputError("--workdir is missing; name a folder for the run, such as --workdir runs/first.")
    if options.region and options.mode != "predict":
        raise InputError(f"--region goes with --mode=predict, not {options.mode}; leave it out, or change the mode.")
    if options.coordinator and options.mode not in SEVERAL_HOSTS:
        raise InputError(
            f"--coordinator goes with trainings, not {options.mode}; leave it out, and run it on one host."
        )
    if options.cluster and options.mode not in ON_A_CLUSTER:
        raise InputError(
            f"--cluster goes with --mode={' or '.join(ON_A_CLUSTER)}, not {options.mode}; leave it out, or change the "
            "mode."
        )
    if options.compare and options.mode != "figures":
        raise InputError(f"--compare goes with --mode=figures, not {options.mode}; leave it out, or change the mode.")


def _innermost(error: object) -> str:
    """The message of the innermost of nested errors, on one line."""
    while isinstance(error, Exception) and error.args:
        error = error.args[0]
    return ". ".join(" ".join(line.split()) for line in str(error).splitlines())


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", "", "", flag_values=values)
    flags.DEFINE_enum("mode", next(iter(MODES)), list(MODES), "", flag_values=values)
    flags.DEFINE_list("compare", [], "", flag_values=values)
    flags.DEFINE_string("region", "", "", flag_values=values)
    flags.DEFINE_string("cluster", "", "", flag_values=values)
    flags.DEFINE_string("coordinator", "", "", flag_values=values)
    flags.DEFINE_integer("num_processes", None, "", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("process_id", None, "", lower_bound=0, flag_values=values)
    return values


def _read_config(argv: list[str], options: flags.FlagValues) -> tuple[ConfigDict, list[str]]:
    """The config that --config names, or that of the run in --workdir, and the other words of `argv`."""
    config, words = None, []
    rest = iter(argv)
    for word in rest:
        if word == "--config":
            word = f"--config={next(rest, '')}"
        if word.startswith("--config="):
            path, _, argument = word.removeprefix("--config=").partition(":")
            config = config_lib.read_config(config_lib.find_config(path), argument)
        else:
            words.append(word)
    if config is None:
        if options.mode in NEED_CONFIG:
            raise InputError("--config is missing; name one, such as --config configs/dualrel.py:phantom,1/32.")
        starter.unpack(options.workdir)
        config = config_lib.load(Path(options.workdir) / "config.json")
    return config, words


if __name__ == "__main__":
    sys.exit(main())
