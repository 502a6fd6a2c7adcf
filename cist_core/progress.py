"""How long work tells how far it is."""

from collections.abc import Callable

ProgressCallback = Callable[[int, int], None]
"""Called with what is done so far, and the whole; 0 where the whole is not known."""
