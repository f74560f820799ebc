"""The page of a comparison: whole, escaped, asking for nothing else; in a real browser where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines.comparison import recipes
from pipelines.comparison.page import comparison_page, model_card
from pipelines.comparison.side_by_side import blocks
from tests.pipelines.comparison.made_up import column, entry, measurement

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Links(HTMLParser):
    """Everything that a page could ask for, its pictures, and whether its elements are closed in order."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def columns_in(folder: Path):
    return [
        column(1, measurement(folder / "1", 2.0, noise=1), aliases=("champion",)),
        column(2, measurement(folder / "2", 1.9, noise=2), model__name="<script>alert(1)</script> & 'x'"),
        column(3, measurement(folder / "3", 1.9, noise=3, bound_card={"first_time": 8})),
        column(4, measurement()),  # its files are gone
    ]


def page_of(folder: Path) -> str:
    columns = columns_in(folder)
    return comparison_page(columns, blocks(columns, "1 champion"), ["what P means", "3 cannot be compared: <why>"])


def test_the_page_is_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    text = page_of(tmp_path)
    parsed = Links()
    parsed.feed(text)
    assert parsed.open == []
    assert "script" not in parsed.tags
    assert all(link.startswith("data:") for link in parsed.links)
    assert "url(" not in text
    assert len(parsed.images) == 3 + 2 + 1  # samples of three, terms of two cards, one against the champion by image
    assert all(image["alt"] for image in parsed.images)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#39;x&#39;" in text
    assert "2 against 1 champion, bits/dim: better (P &gt; 99.9%)" in text
    assert "3 cannot be compared: &lt;why&gt;" in text
    assert "reproduce models:/m/2" in text


def test_recipes_and_single_models_have_pages(tmp_path: Path) -> None:
    entries = [entry(k, measurement(tmp_path / str(k), 2.0, noise=k), seed=str(k)) for k in (1, 2)]
    columns = recipes.by_recipe(entries)
    text = comparison_page(columns, blocks(columns, columns[0].title, by_recipe=True), ["note"])
    assert "A (1, 2)" in text
    single = column(1, measurement(tmp_path / "card", 2.0))
    card = model_card(single, blocks([single], "1"), "load it")
    assert "m version 1" in card
    assert "load it" in card
    assert "train.steps" in card


def in_browser(folder: Path, text: str, width: int) -> tuple[int, str]:
    """How wide the page wants to be in a frame of this width, and what the browser wrote to its console."""
    (folder / "page.html").write_text(text, encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(
        f"<iframe id=f src=page.html style='width:{width}px;height:900px;border:0'></iframe><p id=w></p><script>"
        "f.onload=()=>{w.textContent='wide '+f.contentDocument.documentElement.scrollWidth}</script>"
    )
    flags = "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --allow-file-access-from-files --enable-logging=stderr"
    command = [str(BROWSER), *flags.split(), f"--user-data-dir={folder}/profile", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [*command, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r"wide (\d+)", done.stdout)
    assert found
    return int(found[1]), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium browser")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_finds_no_fault(tmp_path: Path, width: int) -> None:
    """Nothing wider than the window, no message on the console; the page's own policy reports what it would ask for."""
    text = page_of(tmp_path)
    wide, console = in_browser(tmp_path, text, width)
    assert wide <= width
    assert console == ""
    planted = text.replace("<h1>", "<img src='http://127.0.0.1:9/x.png' alt=''><h1>")
    assert "Content Security Policy" in in_browser(tmp_path, planted, width)[1]
