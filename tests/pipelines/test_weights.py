"""Weights from elsewhere: the right file or none, private, downloaded once and whole."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from pipelines.errors import CheckpointError
from pipelines.measure.weights import CLIP, Pinned, Weights
from tests.pipelines.standins import serving

CONTENT = b"a network" * 1000
PINNED = Pinned("weights.pt", "http://127.0.0.1:1/weights.pt", sha256(CONTENT).hexdigest())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The right file in a folder of one's own."""
    path = tmp_path / "given" / "any name.pt"
    path.parent.mkdir(mode=0o755)
    path.write_bytes(CONTENT)
    path.chmod(0o644)
    return path


def weights(tmp_path: Path, given: Path | None = None, url: str = PINNED.url) -> Weights:
    return Weights(replace(PINNED, url=url), "weights.inception", given, tmp_path / "state" / "weights", timeout_s=0.5)


def test_a_given_file_is_taken_without_any_network(file: Path, tmp_path: Path) -> None:
    assert weights(tmp_path, file).find() == file
    assert not (tmp_path / "state").exists()


def test_a_link_leads_to_the_file_itself(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.pt"
    link.symlink_to(file)
    assert weights(tmp_path, link).find() == file


def test_another_file_is_refused(file: Path, tmp_path: Path) -> None:
    file.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(
        CheckpointError, match=rf"is not weights\.pt: its SHA-256 is .*wanted {PINNED.sha256[:12]}.*name another"
    ):
        weights(tmp_path, file).find()


def test_a_missing_file_is_named_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.inception names .*nowhere\.pt, and there is no such file"):
        weights(tmp_path, tmp_path / "nowhere.pt").find()


@pytest.mark.parametrize("mode", [0o020, 0o002])
@pytest.mark.parametrize("of", ["file", "folder"])
def test_what_others_may_write_is_refused(mode: int, of: str, file: Path, tmp_path: Path) -> None:
    place = file if of == "file" else file.parent
    place.chmod(place.stat().st_mode | mode)
    with pytest.raises(CheckpointError, match=rf"others may write to {place}, .*`chmod go-w {place}`"):
        weights(tmp_path, file).find()


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_way_there_that_others_may_change_is_refused_unless_it_is_sticky(
    mode: int, file: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o1000 | mode)  # as /tmp
    assert weights(tmp_path, file).find() == file
    tmp_path.chmod(mode)
    with pytest.raises(CheckpointError, match=f"others may write to {tmp_path}, "):
        weights(tmp_path, file).find()


def test_all_places_that_others_may_write_to_are_named_at_once(file: Path, tmp_path: Path) -> None:
    for place in (file.parent, tmp_path):
        place.chmod(0o775)
    with pytest.raises(CheckpointError, match=rf"write to {file.parent} and {tmp_path}, .*`chmod go-w {file.parent} "):
        weights(tmp_path, file).find()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("of", ["file", "folder", "way", "sticky way"])
def test_what_another_user_owns_is_refused(of: str, file: Path, tmp_path: Path) -> None:
    place = {"file": file, "folder": file.parent}.get(of, tmp_path)
    os.chown(place, 54_321, -1)
    if of == "sticky way":
        place.chmod(0o1777)
    with pytest.raises(CheckpointError, match=rf"{place} belongs to another user \(uid 54321\), .*: copy them into"):
        weights(tmp_path, file).find()


def test_the_user_who_runs_this_is_the_one_that_counts(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And root, who owns everything here if root runs the tests."""
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    if file.stat().st_uid == 0:
        assert weights(tmp_path, file).find() == file
    else:
        with pytest.raises(CheckpointError, match="belongs to another user"):
            weights(tmp_path, file).find()


def test_a_sticky_folder_is_no_place_for_the_file_itself(file: Path, tmp_path: Path) -> None:
    file.parent.chmod(0o1777)
    with pytest.raises(CheckpointError, match="others may write"):
        weights(tmp_path, file).find()


def test_downloaded_once_into_a_private_folder(tmp_path: Path) -> None:
    with serving(CONTENT) as (url, asked):
        found = [weights(tmp_path, url=url).find() for _ in range(2)]
    assert found == [tmp_path / "state/weights/weights.pt"] * 2
    assert asked == ["/weights.pt"]
    assert found[0].read_bytes() == CONTENT
    assert (found[0].parent.stat().st_mode & 0o777, found[0].stat().st_mode & 0o777) == (0o700, 0o600)
    assert list(found[0].parent.iterdir()) == [found[0]]


@pytest.mark.parametrize(("content", "length"), [(CONTENT[:4000], len(CONTENT)), (CONTENT[:-1] + b"!", None)])
def test_a_download_that_is_cut_short_or_another_leaves_nothing(
    content: bytes, length: int | None, tmp_path: Path
) -> None:
    with serving(content, length=length) as (url, _), pytest.raises(CheckpointError, match="cut short or another"):
        weights(tmp_path, url=url).find()
    assert list((tmp_path / "state/weights").iterdir()) == []


def test_a_server_that_is_away_says_how_to_do_without(tmp_path: Path) -> None:
    remedy = r"fetch http://127.* name the file in weights\.inception .* PIPELINES__WEIGHTS__INCEPTION"
    with pytest.raises(CheckpointError, match=rf"could not be downloaded \(.*refused.*\); {remedy}"):
        weights(tmp_path).find()
    assert list((tmp_path / "state/weights").iterdir()) == []


def test_a_silent_server_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.pt"
        with pytest.raises(CheckpointError, match=r"could not be downloaded \(timed out\)"):
            weights(tmp_path, url=url).find()


def test_a_cache_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    cache = tmp_path / "state/weights"
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with serving(CONTENT) as (url, asked), pytest.raises(CheckpointError, match=f"others may write to {cache}"):
        weights(tmp_path, url=url).find()
    assert asked == []


def test_a_file_in_the_cache_that_was_changed_is_refused(tmp_path: Path) -> None:
    with serving(CONTENT) as (url, _):
        path = weights(tmp_path, url=url).find()
        path.write_bytes(CONTENT[1:])
        with pytest.raises(CheckpointError, match="remove it"):
            weights(tmp_path, url=url).find()


def test_the_address_of_clip_holds_its_pin() -> None:
    """As OpenAI's own loader reads it."""
    assert CLIP.url.split("/")[-2] == CLIP.sha256
