"""The page of a comparison: whole, escaped, asking for nothing else; in a real browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines.comparison import recipes
from pipelines.comparison.figures import scatters, terms_overlaid
from pipelines.comparison.page import cards, comparison_page, model_card
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


def page_of_recipes(folder: Path) -> str:
    entries = [
        entry(k, measurement(folder / str(k), 2.0 - 0.01 * k, noise=k), seed=str(k), train__steps=str(1000 * (k // 3)))
        for k in range(1, 5)
    ]
    columns = recipes.by_recipe(entries)
    return comparison_page(columns, blocks(columns, columns[0].title, by_recipe=True), ["note"])


def page_of_one(folder: Path) -> str:
    single = column(1, measurement(folder / "card", 2.0), hardware="x" * 100)
    return model_card(single, blocks([single], "1"), "load it")


def test_recipes_and_single_models_have_pages(tmp_path: Path) -> None:
    assert "A (1, 2)" in page_of_recipes(tmp_path)
    card = page_of_one(tmp_path)
    assert "m version 1" in card
    assert "load it" in card
    assert "train.steps" in card
    assert "2.000 (1.902 to 2.098)" in card


def test_the_card_is_what_the_columns_share_and_what_each_has_by_itself(tmp_path: Path) -> None:
    columns = columns_in(tmp_path)
    (_, text), *_ = cards(blocks(columns, "1 champion"))
    told = json.loads(text)
    assert told["all"]["first_time"] == 1
    assert "model_digest" not in told["all"]
    assert [told[title][0]["model_digest"] for title in ("1 champion", "2")] == [f"{1:064}", f"{2:064}"]


def test_pictures_begin_with_the_base_and_say_whom_they_leave_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [column(k, measurement(tmp_path / str(k), noise=k)) for k in range(1, 9)]
    drawn: list[list[str]] = []

    def terms(curves: dict[str, object], path: Path) -> None:
        drawn.append(list(curves))
        path.write_bytes(b"")

    def pair(first: str, second: str, _: object, path: Path) -> None:
        drawn.append([first, second])
        path.write_bytes(b"")

    monkeypatch.setattr("pipelines.report.pictures.versions.terms_of_versions", terms)
    monkeypatch.setattr("pipelines.report.pictures.versions.image_by_image", pair)
    (block, _) = blocks(columns, "8")
    overlaid = terms_overlaid(columns, block)
    assert overlaid is not None
    assert overlaid.caption == "not shown, of 6 curves at most: 6, 7"
    assert [figure.caption for figure in scatters(columns, block)] == [
        *("", "", ""),
        "not shown, of 4 pictures at most: 5, 6, 7",
    ]
    assert drawn == [["8", "1", "2", "3", "4", "5"], *(["8", str(k)] for k in range(1, 5))]
    columns.insert(0, column(9, measurement()))
    lacking = terms_overlaid(columns[:3], blocks(columns[:3], "1")[0])
    assert lacking is not None
    assert lacking.caption == "not shown, their tables cannot be had: 9"


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
@pytest.mark.parametrize("page", [page_of, page_of_recipes, page_of_one])
def test_a_browser_finds_no_fault(tmp_path: Path, page: Callable[[Path], str], width: int) -> None:
    """Nothing wider than the window, no message on the console; the page's own policy reports what it would ask for."""
    text = page(tmp_path)
    wide, console = in_browser(tmp_path, text, width)
    assert wide <= width
    assert console == ""
    planted = text.replace("<h1>", "<img src='http://127.0.0.1:9/x.png' alt=''><h1>")
    assert "Content Security Policy" in in_browser(tmp_path, planted, width)[1]
