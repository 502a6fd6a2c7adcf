"""Logits from other people's files: NumPy, PyTorch, safetensors, CSV and Parquet. No code runs from any of them.

=====================  ====================================================================
``reading``            `read_logits`: what is in a file, as one set
``labels``             `read_labels`: labels of their own file, and labels in any form as numbers
``limits``             how much a file may ask for
``given``              logits, log-probabilities or probabilities
``tokens``             ``(B, L, C)`` with a mask
``names``              what people call their arrays and columns
``columns``            which columns of a table are the logits
``formats``            which reader opens which ending: the one list
``opening``            from a path to its format; errors that name the file
``arrays``             what the files of named arrays have in common
``distillkit``         captures of DistillKit, for `cist_core.logits.top_k`
``served``             answers of vLLM and data sets of axolotl, likewise
``*_files``, ``tables``  one module a kind of file; ``separators`` of text tables
=====================  ====================================================================

The k most probable classes of each sample only: `cist_core.logits.top_k`.
"""

from cist_core.logits.files.given import GIVEN_AS, GivenAs, as_logits
from cist_core.logits.files.labels import read_labels
from cist_core.logits.files.limits import GENEROUS_LIMITS, UPLOAD_LIMITS, ReadingLimits
from cist_core.logits.files.names import CLASS_NAMES, IDENTIFIER_NAMES, LABEL_NAMES
from cist_core.logits.files.reading import read_beside, read_logits

__all__ = [
    "CLASS_NAMES",
    "GENEROUS_LIMITS",
    "GIVEN_AS",
    "IDENTIFIER_NAMES",
    "LABEL_NAMES",
    "UPLOAD_LIMITS",
    "GivenAs",
    "ReadingLimits",
    "as_logits",
    "read_beside",
    "read_labels",
    "read_logits",
]
