"""The files of a run as they are, behind the back of its store: to look at, to damage and to take away."""

import shutil
import time
from typing import Any

import boto3

from pipelines.runs.local import LocalStore
from pipelines.runs.s3 import S3Store


class RawFolder:
    """Those of a local run."""

    def __init__(self, store: LocalStore) -> None:
        self.folder = store.folder

    def files(self) -> list[str]:
        """All files, as `step-00000250/state.json`."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def read(self, file: str) -> bytes:
        return (self.folder / file).read_bytes()

    def write(self, file: str, content: bytes) -> None:
        (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / file).write_bytes(content)

    def delete(self, file: str) -> None:
        (self.folder / file).unlink()

    def rename(self, old: str, new: str) -> None:
        (self.folder / old).rename(self.folder / new)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name)


class RawBucket:
    """Those of a run on S3."""

    def __init__(self, store: S3Store) -> None:
        self.client = boto3.client("s3")
        bucket, _, prefix = store.uri.removeprefix("s3://").partition("/")
        self.bucket, self.prefix = bucket, f"{prefix}/"

    def _where(self, file: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}{file}"}

    def files(self) -> list[str]:
        there = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix).get("Contents", [])
        return sorted(each["Key"].removeprefix(self.prefix) for each in there)

    def read(self, file: str) -> bytes:
        return self.client.get_object(**self._where(file))["Body"].read()

    def write(self, file: str, content: bytes) -> None:
        self.client.put_object(**self._where(file), Body=content)

    def delete(self, file: str) -> None:
        self.client.delete_object(**self._where(file))

    def rename(self, old: str, new: str) -> None:
        for file in self._of(old):
            self.write(file.replace(old, new, 1), self.read(file))
            self.delete(file)

    def remove(self, name: str) -> None:
        for file in self._of(name):
            self.delete(file)

    def _of(self, name: str) -> list[str]:
        return [file for file in self.files() if file.startswith(f"{name}/")]


Raw = RawFolder | RawBucket


def names(raw: Raw) -> list[str]:
    """The checkpoints, or what is left of them."""
    return sorted({file.split("/")[0] for file in raw.files()})


def next_second() -> None:
    """Sleep until the clock of S3, which counts seconds, shows another one."""
    time.sleep(1.05)
