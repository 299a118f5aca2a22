"""The short commands, `dualrel COMMAND RUN ...`: words become config fields and one call of `main.run`.

An option is a config field under a short name: its meaning, default and limits are those of the schema. What starts
with `--`, such as `dualrel --config ... --mode=predict`, is the form for scripts, which `main` reads.
"""

import argparse
import contextlib
import difflib
import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

import dualrel_jax
from dualrel_jax import starter
from dualrel_jax.commands import ALWAYS, COMMANDS, ON_A_CLUSTER, OTHER_NAMES, Command
from dualrel_jax.errors import InputError
from dualrel_jax.utils.options import InOptions, as_options


def main(argv: list[str] | None = None) -> int:
    """Runs one command line of `dualrel`, short or long; -> its exit code, as `main.main`."""
    words = sys.argv[1:] if argv is None else argv
    if "_ARGCOMPLETE" in os.environ:
        return complete()
    if not words or words in (["--help"], ["-h"], ["help"]):
        print(overview())
        return 0
    if words == ["--version"]:
        print(f"dualrel {dualrel_jax.__version__}")
        return 0
    from dualrel_jax import main as long

    if words[0].startswith("-"):
        return long.main(argv)
    return long.execute(lambda: _run(words), as_program=argv is None)


def _run(words: list[str]) -> None:
    from dualrel_jax import main as long

    if words[0] == "help":
        words = [*words[1:], "--help"]
    if {"-h", "--help"} & set(words):
        print(help_of(_name(words)))
        return
    try:
        with contextlib.redirect_stdout(InOptions(sys.stdout, words[0])):
            long.run(*parse(words))
    except InputError as error:
        raise InputError(as_options(str(error), words[0])) from error


def overview() -> str:
    """The list of commands."""
    lines = ["Finds, numbers and measures mitochondria in electron microscopy volumes.", ""]
    lines += ["  dualrel COMMAND RUN [options]      RUN is the folder of a training, such as runs/mine", ""]
    lines += [f"  {name:10}{command.summary}" for name, command in COMMANDS.items()]
    lines += ["", "From your volume and the masks of some of its slices:", ""]
    lines += [f"  {COMMANDS[name].example}" for name in ("doctor", "train", "predict", "instances")]
    lines += [
        "",
        "dualrel COMMAND --help             the options of a command",
        "dualrel --help config              every field of a config, for --set FIELD=VALUE",
        "python -m dualrel_jax.main --help  the form for scripts: --config, --workdir, --mode",
    ]
    return "\n".join(lines)


def help_of(name: str) -> str:
    """The options of a command, with an example."""
    return _add_command(_Parser(prog="dualrel").add_subparsers(), name).format_help()


def parse(words: list[str]):
    """The flags and the config, as `main.parse`, of the words of a short command.

    Raises:
        InputError: an unknown command or option, a missing word, or what `main.parse` refuses.
    """
    from dualrel_jax import main as long

    words = long.with_home(words)
    name = _name(words)
    command = COMMANDS[name]
    fields = [word for word in words if word.startswith(("--config.", "--noconfig."))]
    args, rest = parser([name]).parse_known_args([word for word in words if word not in fields])
    if rest:
        raise _unknown_word(rest[0], name)
    if getattr(args, "RUN", None):
        _check_run(args, name)
    options = {key: value for key, value in vars(args).items() if "." in key or key in ("size", "seed")}
    settings = [f"--config.{key}={value}" for key, value in options.items() if value is not None]
    flags = [f"--mode={command.mode}"]
    flags += [f"--workdir={args.RUN or 'doctor'}"] if hasattr(args, "RUN") else []
    flags += [f"--{key}={getattr(args, key)}" for key in ("compare", "cluster") if getattr(args, key, None)]
    config = _config(command, args, options)
    return long.complete(config, [*settings, *map(_setting, args.set or ()), *fields, *flags])


def _config(command: Command, args: argparse.Namespace, options: dict):
    """The config that the options are set in."""
    from dualrel_jax import config as config_lib
    from dualrel_jax.config import files

    if not command.starts:
        if command.mode == "download":
            return config_lib.get_config(f"dualrel:{options[ALWAYS]}")
        starter.unpack(args.RUN)
        return config_lib.load(Path(args.RUN) / "config.json")
    there = Path(args.RUN or "doctor") / "config.json"
    data = options.get("data.name") or ("own" if options.get("data.image") else None)
    if options.get("data.image") and data != "own":
        raise InputError(
            f"--data is {data}, which has a volume of its own, and --image {options['data.image']}; leave out --data "
            "to use your files, or --image and --labels to use the data set."
        )
    if args.config:
        config = files.read_file(args.config)
        if args.method not in (None, config.method.name):
            raise InputError(
                f"--method is {args.method}, but {args.config} is a config of {config.method.name}; leave one out."
            )
    elif there.is_file() and not args.method:
        config = config_lib.load(there)
    elif data is None:
        raise InputError(
            "There is nothing to train on: name your volume and its labels, such as --image volume.tif --labels masks, "
            "a data set, such as --data phantom, or a config by --config FILE."
        )
    else:
        config = config_lib.get_config(f"{args.method or 'dualrel'}:{data}")
        if options.get("train.init"):
            files.take_model(config, starter.folder(options["train.init"]))
    if options.get("size"):
        files.empty_preset(config)
    return config


def _check_run(args: argparse.Namespace, name: str) -> None:
    """InputError if a volume, or a file of a run, stands where the folder of the run belongs."""
    given = Path(args.RUN)
    if not given.is_file() and (given.suffix not in (".zarr", ".n5") or (given / "config.json").is_file()):
        return
    second = next((word for key, word in vars(args).items() if key.endswith(".input") and word), "")
    folders = [folder for folder in (given.parent, Path(second or "runs/mine")) if (folder / "config.json").is_file()]
    words = ["dualrel", name, str(folders[0] if folders else "runs/mine")]
    if given.parent not in folders:  # a volume, and no file of a run
        words += ["--image"] if "--image" in COMMANDS[name].options and name != "instances" else []
        words += [args.RUN]
    raise InputError(
        f"{args.RUN} is a {'file' if given.is_file() else 'volume'}, not the folder of a run; the first word after "
        f"{name} is that folder, which a training makes: {shlex.join(words)}"
    )


def _setting(text: str) -> str:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set is {text!r}; expected FIELD=VALUE, such as --set train.steps=500.")
    return f"--config.{key.strip().removeprefix('config.')}={value}"


# ---------------------------------------------------------------------------------------------------------------------
# The parser
# ---------------------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        name = self.prog.rpartition(" ")[2]
        command = COMMANDS.get(name)
        example = f", such as {command.example}" if command else ""
        if message.startswith("the following arguments are required: "):
            missing = message.partition(": ")[2].partition(",")[0]
            raise InputError(f"{self.prog} needs {missing}{example} (see {self.prog} --help).")
        raise InputError(f"{message} (see {self.prog} --help).")


def parser(names: list[str]) -> argparse.ArgumentParser:
    """The parser of the commands `names`; every option is left out of the result's fields unless it is given."""
    top = _Parser(prog="dualrel", allow_abbrev=False)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name in names:
        _add_command(commands, name)
    return top


def _add_command(commands, name: str) -> argparse.ArgumentParser:
    from dualrel_jax.config.schema import fields_of
    from dualrel_jax.configs.base import DOWNLOADS

    command, fields = COMMANDS[name], fields_of("dualrel")
    sub = commands.add_parser(
        name,
        usage=f"dualrel {name} {' '.join(_operands(name))} [options]",
        description=f"{command.summary[0].upper()}{command.summary[1:]}:\n\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for (key, word), shown in zip(command.operands.items(), _operands(name), strict=True):
        optional = {"nargs": "?"} if shown.startswith("[") else {}
        if key == "RUN":
            sub.add_argument("RUN", help=word, **optional)
        else:
            names = f"Data set: {', '.join(DOWNLOADS)}." if name == "download" else ""
            sub.add_argument(key, metavar=word, help=names or _help(key, fields[key]), **optional)
    for flag, key in command.options.items():
        _add_option(sub, flag, key, fields[key])
    if name == "figures":
        sub.add_argument("--compare", metavar="RUN,RUN", help="Runs to draw beside it, tested on the same slices.")
    if command.mode in ON_A_CLUSTER:
        sub.add_argument(
            "--cluster",
            metavar="WHERE",
            help="Where tasks run: local:N, tcp://HOST:PORT, or a YAML file for Slurm (see docs/cluster.md).",
        )
    if command.starts:
        _add_method(sub)
    sub.add_argument(
        "--set", action="append", metavar="FIELD=VALUE", help="Any field of the config; dualrel --help config has all."
    )
    return sub


def _operands(name: str) -> list[str]:
    """The words without a name, those in brackets that may be left out."""
    words = []
    for key, word in COMMANDS[name].operands.items():
        needed = (key == "RUN" and name != "doctor") or key == ALWAYS
        words.append((word if key != "RUN" else key) if needed else f"[{word if key != 'RUN' else key}]")
    return words


def _add_option(sub: argparse.ArgumentParser, flag: str, key: str, entry) -> None:
    kind = {"action": "store_const", "const": True} if entry.type is bool else {}
    if not kind:
        kind = {"metavar": "|".join(map(str, entry.choices)) if 0 < len(entry.choices) < 5 else _metavar(flag)}
    action = sub.add_argument(flag, *OTHER_NAMES.get(flag, ()), dest=key, help=_help(key, entry), **kind)
    if entry.choices:
        action.completer = lambda **_: map(str, entry.choices)


def _add_method(sub: argparse.ArgumentParser) -> None:
    from dualrel_jax.config.schema import method_names

    sub.add_argument("--method", help=f"{', '.join(method_names())}. Default: dualrel.").completer = lambda **_: (
        method_names()
    )
    sub.add_argument(
        "--config",
        metavar="FILE",
        help="Config to start from: config.json of a run, a YAML file, or METHOD.py:DATA. Options change its fields.",
    )


def _help(key: str, entry) -> str:
    from dualrel_jax.config.document import explain

    text = explain(key, entry).removesuffix(" Default: empty.").removesuffix(" Default: False.")
    return text.replace(" empty: ", " Without it: ").replace("%", "%%")


def _metavar(flag: str) -> str:
    return flag.strip("-").replace("-", "_").upper()


def complete() -> int:
    """Answers the shell's question for the words that may follow; argcomplete ends the process."""
    import argcomplete

    argcomplete.autocomplete(parser(list(COMMANDS)))
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Wrong words
# ---------------------------------------------------------------------------------------------------------------------


def _name(words: list[str]) -> str:
    """The command that the first word names."""
    name = words[0]
    if name in COMMANDS:
        return name
    if len(words) > 1 and words[1] in COMMANDS:
        raise InputError(f"The command comes first: dualrel {words[1]} {name}.")
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    advice = f"did you mean dualrel {near[0]}?" if near else f"expected {', '.join(COMMANDS)} (see dualrel --help)."
    raise InputError(f"There is no command {name!r}; {advice}")


def _unknown_word(word: str, name: str) -> InputError:
    """The error for a word that the command does not have: it names the nearest option, or the field to set."""
    if not word.startswith("-"):
        return InputError(f"{word!r} is one word too many for dualrel {name} (see dualrel {name} --help).")
    from dualrel_jax.config.migration import RENAMED
    from dualrel_jax.config.schema import fields_of

    flag = word.partition("=")[0]
    command = COMMANDS[name]
    flags = [*command.options, "--set", "--help", *(["--method", "--config"] if command.starts else [])]
    flags += ["--cluster"] if command.mode in ON_A_CLUSTER else []
    flags += ["--compare"] if name == "figures" else []
    fields = {old.rpartition(".")[2]: key for old, key in RENAMED.items()}
    fields |= {key.rpartition(".")[2]: key for key in fields_of("dualrel")}
    asked = flag.strip("-").replace("-", "_")
    if near := difflib.get_close_matches(flag, flags, n=1, cutoff=0.7):
        advice = f"did you mean {near[0]}?"
    elif near := difflib.get_close_matches(asked, fields, n=1, cutoff=0.7):
        advice = f"did you mean --set {fields[near[0]]}=VALUE?"
    else:
        advice = f"see dualrel {name} --help."
    return InputError(f"dualrel {name} has no option {flag}; {advice}")
