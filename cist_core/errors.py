"""The errors that a user can cause, and the warnings that a user should see."""


class CistError(ValueError):
    """One clear sentence that names the thing, the value and the remedy.

    The command line prints it and exits with code 2; the app shows it where the user looks.
    """


class CistWarning(UserWarning):
    """A result that is not quite what was asked for, in sentences like those of `CistError`.

    The command line prints it as a remark.
    """


class Cancelled(CistError):  # noqa: N818 - it reports a wish, not a fault
    """The user stopped a long computation; nothing was lost."""
