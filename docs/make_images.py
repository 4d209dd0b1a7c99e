"""Make the images of README.md and docs/searching.md anew, by running their code: `python docs/make_images.py`.

Needs Chromium for the image of the page `hits.html`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import PIL.Image

from multimodal_search.cli import demo_images as _demo

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "searching.md"
PAGE_IMAGE = "hits-page.png"
BLOCK = re.compile(r"(<!-- not run[^\n]*\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Run the demo and the page's blocks of Python from top to bottom, and keep the images that they make."""
    text = PAGE.read_text("utf-8")
    shown = set(re.findall(r"\]\(images/([\w-]+\.png)\)", text))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        _demo.paint(Path("photos"))
        shutil.copy("photos/red apple.jpg", "query.jpg")
        names: dict[str, object] = {"__name__": "a_page"}
        for is_not_run, block in BLOCK.findall(text):
            if not is_not_run:
                exec(block, names)  # noqa: S102 (it is our own)
        _photograph(Path("hits.html"), Path(PAGE_IMAGE))
        subprocess.run([sys.executable, "-m", "multimodal_search", "demo", "demo"], check=True)
        shutil.copy("demo/contact-sheet.png", "demo.png")
        for name in sorted(shown | {"demo.png"}):
            with PIL.Image.open(name) as image:
                full = image.convert("RGB")
            few = full.quantize(palette=full.quantize(256), dither=PIL.Image.Dither.FLOYDSTEINBERG)
            few.save(DOCS / "images" / name, optimize=True)
            print(name, (DOCS / "images" / name).stat().st_size)  # noqa: T201
        os.chdir(DOCS)


def _photograph(page: Path, image: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if browser is None:
        raise SystemExit("install Chromium: it takes the image of the page")
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1000,900"]
    subprocess.run(  # noqa: S603 (a page that we wrote)
        [browser, *options, f"--screenshot={image.resolve()}", page.resolve().as_uri()],
        check=True,
        timeout=60,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
