"""Text files of people: what is read of them, and the line that is told of one in another code."""

from __future__ import annotations

import pytest

from gf_core.errors import GroundedError
from gf_core.files.utf8 import as_text


def test_text_is_read_as_an_editor_shows_it():
    assert as_text("\ufeffnaïve\r\nfox\rhen\n".encode(), "a.txt") == "naïve\nfox\nhen\n"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_line_of_the_first_wrong_byte_is_told(mark, end):
    with pytest.raises(GroundedError) as caught:
        as_text(mark + end.join(["é".encode(), b"", b"caf\xe9", b"\xff"]), "a.txt")
    assert caught.value.message == "a.txt, line 3: the byte E9 is not text in UTF-8"
    assert "save it as UTF-8" in caught.value.fix
