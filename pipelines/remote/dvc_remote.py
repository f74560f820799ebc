"""The DVC remote that a commit names, to which a submitted pipeline pushes what it makes."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from pipelines.errors import ParamsError
from pipelines.settings import Settings
from pipelines.tracking.git import asked

_REMEDY = "`infra/dvc/remote.sh s3://bucket/prefix`, and commit .dvc/config"


def check_remote(repository: Path, commit: str, settings: Settings) -> None:
    """Refuse a remote in which the results would not outlive the job.

    Raises:
        ParamsError: there is none, or it is a folder that only the job sees.
    """
    url = remote_of(repository, commit)
    if url is None:
        raise ParamsError(
            f"commit {commit[:12]} has no default DVC remote, to which the results would be pushed: {_REMEDY}"
        )
    folder, is_seen = url.removeprefix("file://"), settings.jobs.backend in ("local", "slurm")
    if re.match(r"\w+://", folder) or (is_seen and folder.startswith(("/", "~"))):
        return
    wanted = "a server's (s3://..), or a folder by its whole path" if is_seen else "a server's (s3://..)"
    raise ParamsError(
        f"the DVC remote of commit {commit[:12]} is {url}, for the job a folder of its own, or of the machine that it "
        f"runs on, where its results would be lost: it must be {wanted}: {_REMEDY}"
    )


def remote_of(repository: Path, commit: str) -> str | None:
    """The address of the default remote as .dvc/config of the commit has it; None where it names none.

    Raises:
        ParamsError: DVC does not understand that file.
    """
    from dvc.config import Config, ConfigError
    from dvc.fs import get_fs_config

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config"
        file.write_text(asked(repository, "show", f"{commit}:.dvc/config"))
        try:
            config = Config.load_file(str(file))
            name = config.get("core", {}).get("remote")
            return str(get_fs_config(config, name=name)["url"]) if name else None
        except (ConfigError, KeyError) as error:
            raise ParamsError(
                f"DVC does not understand .dvc/config of commit {commit[:12]} ({error}): {_REMEDY}"
            ) from None
