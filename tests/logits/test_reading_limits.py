"""What every reader of logits leaves unread, and the bounds that it keeps to."""

import numpy as np
import pandas as pd
import pytest
import torch
from security.forge import GOOD, npy, npy_header, stored, write_zip

from cist_core import CistError, LogitSet, read_logits
from cist_core.logits.files import UPLOAD_LIMITS, ReadingLimits


def test_only_what_is_needed_is_read(tmp_path):
    notes = tmp_path / "notes.npy"
    np.save(notes, np.array([{}], object), allow_pickle=True)
    images = npy_header((1 << 20, 64))  # promises much and holds nothing, and is none of our business
    members = {"images.npy": images, "notes.npy": notes.read_bytes(), "logits.npy": npy(GOOD)}
    write_zip(tmp_path / "a.npz", [stored(*member) for member in members.items()])
    np.testing.assert_array_equal(read_logits(tmp_path / "a.npz", limits=UPLOAD_LIMITS).logits, GOOD)


@pytest.mark.parametrize("limits", [ReadingLimits(values=11), ReadingLimits(classes=2), ReadingLimits(columns=2)])
@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy", "npz", "pt", "safetensors"])
def test_every_reader_keeps_to_the_limits(tmp_path, suffix, limits):
    path = tmp_path / f"set.{suffix}"
    if suffix in ("csv", "parquet"):
        frame = pd.DataFrame(GOOD, columns=list("abc"))
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    elif limits.columns == 2:
        return  # arrays have no columns
    elif suffix == "npy":
        np.save(path, GOOD)
    elif suffix == "npz":
        np.savez(path, GOOD)
    elif suffix == "pt":
        torch.save(torch.from_numpy(GOOD), path)
    else:
        LogitSet.create(GOOD).save(path)
    with pytest.raises(CistError, match=r"at most (11|2)( classes)? are read"):
        read_logits(path, limits=limits)
    assert read_logits(path).num_samples == 4
