"""Files that appear whole, in folders and on drives that are not as usual."""

import os
from pathlib import Path

import pytest

from cist_core.files import make_folder, write_whole


def test_a_file_in_a_folder_that_may_not_be_read_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: os.PathLike[str], flags: int, *more: int, **named: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    write_whole(tmp_path / "report.txt", lambda file: file.write_text("whole"), what="The report")
    assert (tmp_path / "report.txt").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["report.txt"]


def test_a_drive_that_is_not_there_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    with pytest.raises(OSError, match=r".") as caught:
        make_folder(Path("/"))
    assert caught.type is not RecursionError
