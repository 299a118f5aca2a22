"""The one exception a user is meant to see."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence a biologist understands: the file or config key, the value got,
    the value expected and the next step. The command line prints it and exits with code 2.
    """
