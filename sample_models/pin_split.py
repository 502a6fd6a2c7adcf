"""Write down which images the CIFAR-100 models were trained, validated and tested on.

    python -m sample_models.pin_split FOLDER

FOLDER holds cifar100_train.npz and cifar100_test.npz, as for `sample_models.train --images`. The result is read by
`cist_core.data`, so that everyone who loads CIFAR-100, from whichever mirror, gets these very splits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cist_core.data
from cist_core.data.pinned_splits import PINNED, write_pins
from sample_models.train import load_splits

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    splits = load_splits("cifar100", Path(sys.argv[1]))
    target = Path(cist_core.data.__file__).parent / PINNED["cifar100"]
    write_pins(target, {split: (dataset.images[:], dataset.labels) for split, dataset in splits.items()})
    print(f"{target}: " + ", ".join(f"{split} {dataset.num_samples:,}" for split, dataset in splits.items()))
