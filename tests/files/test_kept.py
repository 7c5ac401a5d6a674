"""What is kept between runs: what was used last stays, whether it was written or read."""

import os
import time

from gf_core.files.cache import prune


def test_what_was_used_longest_ago_goes_first(tmp_path):
    """A file's time of reading counts, too: a program that keeps things for years only reads them."""
    now, used = time.time(), {"read": (10, 90), "written": (50, 20), "old": (60, 60), "oldest": (70, 80)}
    for name, (read, written) in used.items():
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (now - read, now - written))
    left = list(used)
    for most, gone in ((399, "oldest"), (200, "old"), (199, "written"), (100, None), (99, "read")):
        prune(tmp_path, most)
        left = [name for name in left if name != gone]
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(left)
