"""The certificates for Ray: openssl verifies them, and refuses those of another authority."""

import ssl
from pathlib import Path

import pytest

from tests.infra.conftest import INFRA, run, tool

SCRIPT = INFRA / "tls" / "make-certificates.sh"


def make(folder: Path, *names: str) -> None:
    tool("openssl")
    done = run(SCRIPT, folder, *names)
    assert done.returncode == 0, done.stderr


def test_certificates_are_good_for_the_names_they_were_made_for(tmp_path: Path) -> None:
    make(tmp_path, "head.example.com", "10.0.0.7")
    verify = ("openssl", "verify", "-CAfile", tmp_path / "ca.crt", "-purpose", "sslserver")
    for option, name, good in (
        ("-verify_hostname", "head.example.com", True),
        ("-verify_ip", "10.0.0.7", True),
        ("-verify_ip", "127.0.0.1", True),
        ("-verify_hostname", "other.example.com", False),
    ):
        assert (run(*verify, option, name, tmp_path / "tls.crt").returncode == 0) is good, name
    assert {path.name for path in tmp_path.iterdir()} == {"ca.crt", "ca.key", "ca.srl", "tls.crt", "tls.key"}
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


def test_key_and_certificate_belong_together_and_the_authority_stays(tmp_path: Path) -> None:
    make(tmp_path, "head")
    authority, first = (tmp_path / "ca.crt").read_text(), (tmp_path / "tls.crt").read_text()
    ssl.create_default_context(cafile=str(tmp_path / "ca.crt")).load_cert_chain(
        tmp_path / "tls.crt", tmp_path / "tls.key"
    )
    make(tmp_path, "head", "worker")
    assert (tmp_path / "ca.crt").read_text() == authority
    assert (tmp_path / "tls.crt").read_text() != first


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "ours", "head")
    make(tmp_path / "theirs", "head")
    done = run("openssl", "verify", "-CAfile", tmp_path / "ours" / "ca.crt", tmp_path / "theirs" / "tls.crt")
    assert done.returncode != 0
    assert "unable to get local issuer certificate" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [(), ("folder",)])
def test_names_are_asked_for(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert run(SCRIPT, *arguments, cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []
