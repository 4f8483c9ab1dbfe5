"""What others wrote, as a terminal or a log gets it."""

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kashvi.text import json_line, narrow, visible

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("jobs.Note", "jobs.Note"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nERROR b\r", r"a\nERROR b\r"),
        ("\x9b31m\x7f\x00\t", r"\x9b31m\x7f\x00\t"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("a\u2028b\u2029c\ufeff", r"a\u2028b\u2029c\ufeff"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("東京 Ä\u00a0😀 👩\u200d🚀 می\u200cخواهم", "東京 Ä\u00a0😀 👩\u200d🚀 می\u200cخواهم"),
    ],
)
def test_what_a_reader_can_not_see_is_written_out(text: str, shown: str) -> None:
    """Controls, line ends and changes of direction; never a letter, a space or a joined emoji."""
    assert visible(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_one_line_that_utf8_can_write(text: str) -> None:
    """No control character of either set is left, and what is visible stays."""
    shown = visible(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert visible(shown) == shown


@given(st.text())
def test_json_reads_as_before_and_holds_no_raw_control_character(text: str) -> None:
    """Also C1, which JSON allows."""
    line = json_line({"error": text})
    assert visible(line) == line
    assert json.loads(line) == {"error": text}


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_a_stream_of_a_small_character_set_takes_any_text_and_json_stays_json(encoding: str) -> None:
    """PYTHONIOENCODING=cp1252, as on many Windows consoles."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    narrow(stream)
    stream.write(json_line("é 東京 😀"))
    stream.flush()
    assert json.loads(raw.getvalue().decode(encoding)) == "é 東京 😀"


def test_every_command_prints_json_by_one_function() -> None:
    """So that none forgets what it escapes."""
    for folder in ("kashvi/cli", "sim/kashvi_sim/commands", "spec/kashvi_spec/kit/commands"):
        for path in (ROOT / folder).glob("*.py"):
            assert not re.search(r"json\.encode\(.*decode\(\)|json\.dumps", path.read_text()), path
