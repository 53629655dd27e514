"""The one family of errors that are the user's to mend."""


class InputError(ValueError):
    """What was given cannot be used.

    The message is one sentence or a few lines for a person: what was given, what was wanted, what would work.
    The command line prints it without a traceback and exits with code 2.
    """
