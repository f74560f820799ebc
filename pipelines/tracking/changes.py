"""What differs from the commit: a patch of the files that git tracks or would track, without what may be a secret.

A person usually edits params.yaml and runs without committing, and DVC runs an experiment in a copy with uncommitted
changes; the commit and this patch together are then what ran. `dvc.lock` is no part of it: stages write it, and it is
kept by itself.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from pipelines.tracking.git import asked, git

LARGEST = 2**20
"""Bytes of one file."""
_MOST, _MOST_BYTES = 200, 4 * 2**20
"""Files, and bytes of all together."""
SEEMS_SECRET = "it seems to hold a password or a key"
_WRITTEN_BY_STAGES = {"dvc.lock"}
_SECRET_NAMES = (".env", ".env.*", "*.env", ".netrc", ".pgpass", "*.pem", "*.key")
_SECRET_WORDS = ("id_*", "*secret*", "*credential*", "*token*", "*passw*")
"""Names of files that are not source code: tokenizer.py holds none."""
_SOURCE = {".py", ".pyi", ".c", ".cc", ".cpp", ".cu", ".h", ".hpp", ".js", ".ts", ".rs", ".go", ".java", ".sh"}
_PASSWORD = rb"(?i:passw(?:or)?d|passphrase)"
_WORD = rb"(?:" + _PASSWORD + rb"|(?i:token|secret(?:[_-]?key)?|(?:access|api|private|auth)[_-]?key))"
_FIRST, _REST = rb"[^\s'\"`$<{(\[~-]", rb"[^\s'\"]"
"""Of a value that names nothing else, as `${TOKEN}` or `<token>` would."""
_VALUE = _FIRST + _REST + rb"{7,}"
_QUOTE = rb"\\?['\"]"
"""In a notebook, which is JSON, after a backslash."""
_SCHEME = rb"(?i:authorization[\\'\"\]]*\s*[:=]\s*[\\'\"]*(?:bearer|basic|token))"
_SECRET = re.compile(
    b"|".join(
        (
            rb"[A-Za-z][\w+.-]*://(?:[^/@\s:]*:[^/@\s]+|(?!git@|hg@)[^/@\s:{$<]+)@",  # in an address
            rb"-----BEGIN [A-Z ]*PRIVATE KEY",
            rb"\b(?:A[KS]IA[0-9A-Z]{16}|(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[a-z]-)[\w-]{16,})",
            rb"\beyJ[\w-]{8,}\.[\w-]{8,}",  # JSON that somebody signed
            _SCHEME + rb"[ \t]+" + _VALUE,
            _WORD + rb"[\\'\"\]]*[ \t]*(?::[ \t]*\w+[ \t]*=|[:=])[ \t]*" + _QUOTE + _VALUE + rb"['\"]",
            rb"--[\w-]*" + _WORD + rb"(?:[= ]['\"]?|['\"],\s*['\"])" + _VALUE,
        )
    )
)
_IS = rb"['\"]?[ \t]*[:=][ \t]*"
_CHOSEN = rb"['\"]?(?!(?i:null|none|true|false|str|string)\b)" + _FIRST + _REST + rb"{3,}['\"]?,?\s*$"
"""What a person chose, alone on its line: it may be short."""
_SECRET_OUTSIDE_CODE = re.compile(b"|".join((_WORD + _IS + _VALUE, rb"(?m:" + _PASSWORD + _IS + _CHOSEN + rb")")))


@dataclass(frozen=True)
class Changes:
    """Of a working tree against its commit."""

    patch: bytes = b""
    """For `git apply` at the commit; empty where nothing differs."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Files that differ and are not in it -> why."""


def changed_names(folder: Path) -> list[str]:
    """Files of the repository at `folder` that differ from its commit, or are new and not ignored; sorted."""
    differing = asked(folder, "diff", "HEAD", "--name-only", "--no-renames", "-z").split("\0")
    new = asked(folder, "ls-files", "--full-name", "--others", "--exclude-standard", "-z").split("\0")
    return sorted({name for name in (*differing, *new) if name and name not in _WRITTEN_BY_STAGES})


def changes(folder: Path) -> Changes:
    """The patch, and what is not in it.

    Raises:
        PipelineError: git refuses.
    """
    names, left_out = _chosen(folder, changed_names(folder))
    patches = dict(zip(names, _patches(folder, names), strict=True))
    for name, patch in patches.items():
        if holds_secret(name, patch):
            left_out[name] = SEEMS_SECRET
    return Changes(b"".join(patch for name, patch in patches.items() if name not in left_out), left_out)


def holds_secret(name: str, content: bytes) -> bool:
    """Whether a password, a token or a key seems to stand in the file of that name, or in its patch."""
    return bool(_SECRET.search(content) or (not name.endswith(".py") and _SECRET_OUTSIDE_CODE.search(content)))


def _secret_by_name(path: PurePosixPath) -> bool:
    patterns = _SECRET_NAMES if path.suffix in _SOURCE else _SECRET_NAMES + _SECRET_WORDS
    return any(fnmatch(path.name.lower(), pattern) for pattern in patterns)


def _chosen(folder: Path, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The files that may be kept by their names and sizes, and why the others may not."""
    kept: list[str] = []
    left_out: dict[str, str] = {}
    total = 0
    for name in names:
        path = folder / name
        size = path.lstat().st_size if path.is_symlink() or path.is_file() else 0
        if _secret_by_name(PurePosixPath(name)):
            left_out[name] = "by its name it may hold a secret"
        elif name.endswith("/"):
            left_out[name] = "a repository of its own"
        elif size > LARGEST:
            left_out[name] = f"larger than {LARGEST >> 20} MiB"
        elif len(kept) == _MOST or total + size > _MOST_BYTES:
            left_out[name] = f"more than {_MOST} files or {_MOST_BYTES >> 20} MiB differ"
        else:
            kept.append(name)
            total += size
    return kept, left_out


def _patches(folder: Path, names: Sequence[str]) -> list[bytes]:
    """One for each file, made with an index and objects of its own, so that the person's are not touched."""
    if not names:
        return []
    objects = Path(folder, asked(folder, "rev-parse", "--git-path", "objects")).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        own = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
            "GIT_LITERAL_PATHSPECS": "1",
        }
        git(folder, "read-tree", "HEAD", env=own)
        listed = "\0".join(names).encode()
        git(folder, "add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul", feed=listed, env=own)
        form = ("--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv")
        plain = ("--src-prefix=a/", "--dst-prefix=b/")
        return [git(folder, "diff", "--cached", *form, *plain, "HEAD", "--", name, env=own) for name in names]
