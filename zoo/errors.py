"""The one exception that means: what the user supplied is wrong, and here is what to do about it."""


class InputError(ValueError):
    """Something the user supplied (a path, a file, an option) is wrong.

    The message is one line and says what was given, what was expected and what to do. Scripts print it
    as it is, without a traceback, and exit with code 2.
    """
