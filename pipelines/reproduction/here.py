"""What of a version's origin is on this machine, each with yes or no and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.data.manifest import MANIFEST, read_manifest
from pipelines.errors import DataError
from pipelines.tracking.environment import differences, installed
from pipelines.tracking.git import asked, is_here
from pipelines.tracking.origin import Origin


@dataclass(frozen=True)
class Check:
    """One thing that a reproduction needs."""

    what: str
    ok: bool
    says: str
    remedy: str = ""
    """What to do where it is not there."""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy and not self.ok else ""
        return f"{'yes' if self.ok else 'NO':<4}{self.what:<13}{self.says}{remedy}"


def checks(origin: Origin, project: Path) -> list[Check]:
    """All of them."""
    found = [commit_check(origin, project), changes_check(origin), data_check(origin, project)]
    return [*found, environment_check(origin), machine_check(origin)]


def commit_check(origin: Origin, project: Path) -> Check:
    """Whether the commit can be checked out."""
    if not origin.commit:
        return Check("commit", False, "the version was not made in a git repository", "nothing leads to its code")
    short = origin.commit[:12]
    if not asked(project, "rev-parse", "HEAD"):
        return Check("commit", False, f"{project} is not a git repository", "run this in a clone of the project")
    if not is_here(project, origin.commit):
        tags = origin.version.tags
        remote = tags.get("git.remote", "")
        parent = tags.get("git.parent", "")
        other = f"else, if it is gone for good, --checkout FOLDER --at {parent[:12]}, the commit before it"
        return Check(
            "commit", False, f"{short} is not here", f"`git fetch {remote or '--all'}`; {other * bool(parent)}"
        )
    if not asked(project, "for-each-ref", "--count=1", "--contains", origin.commit):
        keep = f"`git tag keep-{short} {short}` before git removes it"
        return Check("commit", True, f"{short} is here, but on no branch or tag: {keep}")
    return Check("commit", True, f"{short} is here")


def changes_check(origin: Origin) -> Check:
    """Whether all that was not committed was kept."""
    if origin.left_out:
        named = ", ".join(f"{name} ({why})" if why else name for name, why in origin.left_out.items())
        return Check("changes", False, f"not kept with the version: {named}", "bring these files by hand")
    return Check("changes", True, "kept with the version as a patch" if origin.patch else "none: as committed")


def data_check(origin: Origin, project: Path) -> Check:
    """Whether the raw images are here, the same ones."""
    params = origin.version.params
    if params.get("data.source") != "folder":
        return Check("data", True, f"{params.get('data.source')} come with the environment")
    path = project / params["data.path"]
    if origin.raw_digest is None:
        prepared = project / "results" / "prepare"
        return Check("data", _is_prepared(prepared, origin.data_digest), f"no dvc.lock says what {path} was")
    if not path.exists():
        pull = f"`dvc pull {params['data.path']}`" if Path(f"{path}.dvc").exists() else "bring it from where it is kept"
        return Check("data", False, f"{params['data.path']} is not here", pull)
    if (here := raw_digest(project, path)) != origin.raw_digest:
        says = f"{params['data.path']} is not what it was: DVC's digest is {here[:12]}, wanted {origin.raw_digest[:12]}"
        return Check("data", False, says, "bring back the images of then")
    return Check("data", True, f"{params['data.path']} is here, unchanged")


def _is_prepared(folder: Path, digest: str) -> bool:
    try:
        return (folder / MANIFEST).exists() and read_manifest(folder).digest == digest
    except DataError:
        return False


def raw_digest(project: Path, path: Path) -> str:
    """DVC's digest of a file or folder, as dvc.lock names it. DVC remembers it as long as no file changes."""
    from dvc.fs import LocalFileSystem
    from dvc.repo import Repo
    from dvc_data.hashfile.build import build

    with Repo(str(project)) as repo:
        built = build(repo.cache.local, str(path), LocalFileSystem(), "md5", dry_run=True, ignore=repo.dvcignore)
        return str(built[2].hash_info.value)


def environment_check(origin: Origin) -> Check:
    """Whether the same distributions are installed."""
    found = differences(origin.environment, installed())
    if not found:
        return Check("environment", True, f"the same {len(origin.environment)} distributions")
    rest = f" and {len(found) - 5} more" if len(found) > 5 else ""
    remedy = "`make setup` in a checkout installs what its requirements.lock says"
    return Check("environment", False, f"was {', '.join(found[:5])}{rest}", remedy)


def machine_check(origin: Origin) -> Check:
    """Whether this is the kind of machine on which the same bits come out."""
    import json

    platforms = json.loads(origin.version.tags.get("platforms", "[]"))
    kinds = list(dict.fromkeys(each["device"] for each in platforms))
    if len(kinds) != 1:
        return Check("machine", False, f"trained on {' then '.join(kinds) or 'an unknown one'}", "bits will differ")
    here = _device(kinds[0])
    if here != kinds[0]:
        return Check("machine", False, f"trained on {kinds[0]}, this is {here}", "bits will differ by rounding")
    return Check("machine", True, f"the same kind: {here}")


def _device(wanted: str) -> str:
    import torch

    from pipelines.cluster.record import platform_of

    on_cpu = wanted.startswith("cpu ") or not torch.cuda.is_available()
    return platform_of(torch.device("cpu" if on_cpu else "cuda")).device
