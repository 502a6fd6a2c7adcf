"""Files that should not open, in one list: what is in each, and who has to refuse it.

``test_hostile.py`` gives every entry to the library, the command line and the page Add; the fuzzer starts from those
that are written down. The sentences that they are refused with stand in ``docs/security.md``.
"""

from security.case import Hostile
from security.cases import bombs, damage, headers, images, networks, pickles, values

CATALOGUE: list[Hostile] = [
    case for kind in (pickles, bombs, headers, values, damage, images, networks) for case in kind.CASES
]
