"""What is installed, as a version keeps it."""

import sys

from pipelines.tracking.environment import installed


def test_what_an_uninstallation_left_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "gone-1.0.dist-info").mkdir()
    (tmp_path / "here_too-2.0.dist-info").mkdir()
    (tmp_path / "here_too-2.0.dist-info/METADATA").write_text("Name: here_too\nVersion: 2.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = installed.__wrapped__()
    assert "here-too==2.0" in found
    assert not [line for line in found if line.startswith(("gone", "=="))]
