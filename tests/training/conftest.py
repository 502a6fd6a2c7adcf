"""What tests of whole runs share: one cache of teacher logits a file, and as many threads after as before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from object_stores import s3, url  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIST_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
