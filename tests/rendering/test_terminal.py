"""Images in a terminal: a real pseudo-terminal, which answers as one that knows Sixel does, or not at all."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path

import PIL.Image
import pytest

if os.name == "nt":
    pytest.skip("needs pseudo-terminals, which Windows has not", allow_module_level=True)

import fcntl
import termios

SHOW = """
import sys
from pathlib import Path
from multimodal_search._rendering.terminal import print_images, shows_images
from multimodal_search.results import SearchHit, SearchResults, cards_of
names = sys.argv[2:]
hits = [SearchHit(id=1, score=0.5, relevance=0.97, payload={"filename": n, "root": sys.argv[1]}) for n in names]
hits.append(SearchHit(id=7, score=0.25, payload={"modality": "text", "text": "A surfer.\\x1b[2J"}))
print("shows", shows_images(), "loaded", "textual_image" in sys.modules)
if shows_images():
    print_images(cards_of(hits))
print("end")
"""
HALF_BLOCK = "\u2580"
SIXEL = "\x1bP"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    PIL.Image.new("RGB", (300, 200), (220, 20, 20)).save(tmp_path / "red.png")
    PIL.Image.new("RGB", (3000, 2), (20, 20, 220)).save(tmp_path / "line.png")
    PIL.Image.new("RGB", (2, 3000), (20, 180, 20)).save(tmp_path / "pole.png")
    return tmp_path


def seen(
    folder: Path,
    *names: str,
    size: tuple[int, int] = (50, 100),
    answer: bytes = b"",
    stdin: int | None = None,
    **more: str,
) -> str:
    """What a terminal of this many rows and columns receives; `answer` is what it says when it is asked what it is."""
    above, below = os.openpty()
    rows, columns = size
    fcntl.ioctl(below, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, columns * 10, rows * 20))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **more}
    for name in ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"):
        if name not in more:
            environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, str(folder), *names],
        stdin=below if stdin is None else stdin,
        stdout=below,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    os.close(below)
    shown = b""

    def listen() -> None:
        nonlocal shown
        while True:
            try:
                chunk = os.read(above, 65536)
            except OSError:  # the other end is closed
                return
            if not chunk:
                return
            shown += chunk
            if answer and chunk.endswith(b"\x1b[c"):
                os.write(above, answer)

    listener = threading.Thread(target=listen)
    listener.start()
    assert process.wait(60) == 0, shown.decode()
    listener.join(60)
    os.close(above)
    return shown.decode()


def lines_of(shown: str) -> list[str]:
    """The lines, without colours and without what the terminal was asked."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*[mct]|\x1b_G.*?\x1b\\", "", shown).splitlines()]


def test_a_terminal_without_graphics_shows_half_blocks(folder: Path) -> None:
    lines = lines_of(seen(folder, "red.png", "gone.png"))
    assert lines[0] == "shows True loaded False", "what asks the terminal is not loaded before it is needed"
    image = [line for line in lines if HALF_BLOCK in line]
    assert [line.count(HALF_BLOCK) for line in image] == [24] * 8, "300 x 200 in 24 characters of 10 x 20"
    [numbers] = [line for line in lines if "0.500" in line]
    assert numbers.split() == ["1", "0.500", "97", "%", "2", "0.500", "97", "%", "3", "0.250"]
    assert "red.png                   gone.png                  id 7" in lines
    assert "no such file" in "\n".join(lines)
    assert lines[-1] == "end"


def test_the_colours_are_the_image_s(folder: Path) -> None:
    assert "\x1b[38;2;220;20;20;48;2;220;20;20m" in seen(folder, "red.png")


def test_a_terminal_with_sixel_gets_sixel(folder: Path) -> None:
    shown = seen(folder, "red.png", "red.png", answer=b"\x1b[?62;4;22c")
    assert shown.count(SIXEL) == 2
    assert HALF_BLOCK not in shown


def test_names_and_texts_cannot_drive_the_terminal(folder: Path) -> None:
    name = "a\x1b[2J\x1b]0;owned\x07\n.png"
    PIL.Image.new("RGB", (30, 20)).save(folder / name)
    shown = seen(folder, name, "[bold]b[/bold] :smile:.png")
    assert not re.search(r"\x1b\[2J|\x1b\]0;|\x07", shown)
    lines = "\n".join(lines_of(shown))
    assert r"a\x1b[2" in lines
    assert r"A surfer.\x1b[2J" in lines
    assert "[bold]b" in lines, "no markup of rich"
    assert ":smile:.png" in lines, "nor its emoji codes"


@pytest.mark.parametrize("columns", [1, 5, 24, 51, 300])
def test_any_width_is_enough(folder: Path, columns: int) -> None:
    """Rows hold as many as fit; a narrow one has one, and nothing runs over its edge."""
    lines = lines_of(seen(folder, "red.png", "line.png", "pole.png", "x" * 300, size=(24, columns)))
    assert lines[-1] == "end"
    assert max(map(len, lines[1:])) <= max(columns, 3)
    assert sum(line.count(HALF_BLOCK) for line in lines) >= 3


@pytest.mark.parametrize(
    "surroundings",
    [{"size": (0, 0)}, {"NO_COLOR": "1"}, {"TERM": "dumb"}, {"stdin": subprocess.DEVNULL}],
    ids=lambda given: next(iter(given)),
)
def test_where_images_cannot_be_shown_nothing_is_asked(folder: Path, surroundings: dict[str, object]) -> None:
    """A terminal that cannot answer would be left in a mess, or waited for."""
    shown = seen(folder, "red.png", **surroundings)  # type: ignore[arg-type]
    assert shown == "shows False loaded False\r\nend\r\n"


def test_a_pipe_gets_no_escape_codes(folder: Path) -> None:
    environment = {**os.environ, "FORCE_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", SHOW, str(folder), "red.png"], capture_output=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"shows False loaded False\nend\n", b"")
