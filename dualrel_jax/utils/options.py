"""The words of short commands: fields of the config as the options that set them."""

import re
from typing import TextIO

from dualrel_jax.commands import COMMANDS
from dualrel_jax.constants import SECTIONS

_NAME = rf"((?:{'|'.join([*SECTIONS, 'method'])})\.[a-z_0-9]+)"
_SET = re.compile(rf"(\bset )?(?:--set )?(?:--config\.|config\.|(?<![\w./-])){_NAME}=(?=\S)")
_NAMED = re.compile(rf"(?<![\w./'-])(--config\.|config\.)?{_NAME}(?![\w=/]|\.\w)")


def as_options(text: str, name: str) -> str:
    """`text` with the options and words of the command `name` for config fields.

    A field without an option is set by `--set FIELD=VALUE`.
    """
    command = COMMANDS.get(name)
    flags = {key: flag for flag, key in command.options.items()} if command else {}
    words = {key: word for key, word in command.operands.items() if word.isupper()} if command else {}

    def assigned(match: re.Match) -> str:
        if flag := flags.get(match[2]):
            return f"{match[1] or ''}{flag} "
        return f"{'use ' if match[1] else ''}--set {match[2]}="

    def mentioned(match: re.Match) -> str:
        set_it = "--set " if match[1] == "--config." else ""
        return flags.get(match[2]) or words.get(match[2]) or f"{set_it}{match[2]}"

    text = _NAMED.sub(mentioned, _SET.sub(assigned, text)) if "." in text else text
    return text.replace("another --workdir", "another RUN folder")


class InOptions:
    """A stream in whose sentences config fields are the options of a command."""

    def __init__(self, stream: TextIO, name: str):
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        self._stream.write(as_options(text, self._name))
        return len(text)

    def __getattr__(self, attribute: str):
        return getattr(self._stream, attribute)
