"""The certificates for Ray: openssl verifies them, and refuses those of another authority."""

import shutil
import ssl
from pathlib import Path

import pytest

from tests.infra.conftest import INFRA, run, tool

SCRIPT = INFRA / "tls" / "make-certificates.sh"


def make(folder: Path, *names: str) -> None:
    tool("openssl")
    done = run(SCRIPT, folder, *names)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates for two names; once, because keys take their time."""
    folder = tmp_path_factory.mktemp("tls")
    make(folder, "head.example.com", "10.0.0.7")
    return folder


def test_certificates_are_good_for_the_names_they_were_made_for(made: Path) -> None:
    verify = ("openssl", "verify", "-CAfile", made / "ca.crt", "-purpose", "sslserver")
    for option, name, good in (
        ("-verify_hostname", "head.example.com", True),
        ("-verify_ip", "10.0.0.7", True),
        ("-verify_ip", "127.0.0.1", True),
        ("-verify_hostname", "other.example.com", False),
    ):
        assert (run(*verify, option, name, made / "tls.crt").returncode == 0) is good, name
    ssl.create_default_context(cafile=str(made / "ca.crt")).load_cert_chain(made / "tls.crt", made / "tls.key")


def test_their_files_are_for_their_owner_alone(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {"ca.crt", "ca.key", "ca.srl", "tls.crt", "tls.key"}
    assert {path.stat().st_mode & 0o077 for path in made.iterdir()} == {0}


def test_an_authority_that_is_there_signs_the_next_machine(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "again")
    make(tmp_path / "again", "worker")
    assert (tmp_path / "again" / "ca.crt").read_text() == (made / "ca.crt").read_text()
    assert (tmp_path / "again" / "tls.crt").read_text() != (made / "tls.crt").read_text()
    assert run("openssl", "verify", "-CAfile", made / "ca.crt", tmp_path / "again" / "tls.crt").returncode == 0


def test_a_certificate_of_another_authority_is_refused(made: Path, tmp_path: Path) -> None:
    make(tmp_path, "head.example.com")
    done = run("openssl", "verify", "-CAfile", made / "ca.crt", tmp_path / "tls.crt")
    assert done.returncode != 0
    assert "verification failed" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [(), ("folder",)])
def test_names_are_asked_for(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert run(SCRIPT, *arguments, cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []
