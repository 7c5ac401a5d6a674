"""What kills left half-written beside a file is swept by its age, whatever the file is called and whatever stays."""

import os
import time

from gf_core.files.atomic import beside, sweep_beside

EACH = 8
"""Of so many, some that stay come before some that go, in whatever order a folder is listed."""


def test_what_kills_left_goes_whatever_the_file_is_called_and_whatever_stays(tmp_path):
    """Of a film with a name of 250 bytes nothing was removed, nor behind a folder, which cannot be."""
    path, left = tmp_path / ("a[1]" + "ä" * 121 + ".mp4"), []
    for _ in range(2 * EACH):
        with beside(path, ".mp4") as part:
            left.append(part)
    for part in left[:EACH]:
        part.mkdir()
    for part in left[EACH:]:
        part.write_bytes(b"half")
    for part in left:
        os.utime(part, (time.time() - 4000,) * 2)
    sweep_beside(path, ".mp4")
    assert [part for part in left if part.exists()] == left[:EACH]
