"""Files that are whole, also where a disk cannot do all that it is asked for."""

import errno
import os
import stat

import pytest

from hapgop import files

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere folders are not synced")


def refusing(code, of_folders):
    """os.fsync that refuses folders, or files."""
    sync = os.fsync

    def syncing(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode) == of_folders:
            raise OSError(code, os.strerror(code))
        sync(handle)

    return syncing


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
def test_a_disk_that_syncs_no_folders_has_the_file_all_the_same(tmp_path, monkeypatch, code):
    monkeypatch.setattr(files.os, "fsync", refusing(code, of_folders=True))
    files.write_whole(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    monkeypatch.undo()
    monkeypatch.setattr(files.os, "fsync", refusing(code, of_folders=False))
    with pytest.raises(OSError, match=os.strerror(code)):
        files.write_whole(tmp_path / "a", b"y")
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_folder_that_is_not_on_the_disk_is_said(tmp_path, monkeypatch, code):
    monkeypatch.setattr(files.os, "fsync", refusing(code, of_folders=True))
    with pytest.raises(OSError, match=os.strerror(code)):
        files.write_whole(tmp_path / "a", b"x")
