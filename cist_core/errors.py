"""The errors that a user can cause, and the warnings that a user should see."""

from cist_core.plain_text import written_out


def first_line(error: BaseException, most: int = 300) -> str:
    """What a library says first about a failure, without a full stop, to be put into a sentence.

    Example:
        >>> first_line(ValueError("damaged header.\\nat 0x7f")), first_line(KeyError())
        ('damaged header', 'KeyError')
    """
    return str(error).strip().partition("\n")[0][:most].rstrip(".") or type(error).__name__


class CistError(ValueError):
    """One clear sentence that names the thing, the value and the remedy.

    The command line prints it and exits with code 2; the app shows it where the user looks. Names in it may come from
    files, so the sentence is `written_out`.
    """

    def __init__(self, sentence: object = "") -> None:
        super().__init__(written_out(str(sentence), keep="\t\n"))


class CistWarning(UserWarning):
    """A result that is not quite what was asked for, in sentences like those of `CistError`.

    The command line prints it as a remark.
    """


class BrokenOff(CistError):  # noqa: N818 - it says what became of a computation
    """Other machines broke a long computation off; what is done is kept, and the next one goes on from there."""


class Cancelled(CistError):  # noqa: N818 - it reports a wish, not a fault
    """The user stopped a long computation; nothing was lost."""
