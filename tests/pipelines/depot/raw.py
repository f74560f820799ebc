"""The files of a depot as they are, to look at, to damage and to take away."""

from pathlib import Path

from pipelines.runs.s3_client import client


class Raw:
    def __init__(self, uri: str) -> None:
        self.s3 = uri.startswith("s3://")
        self.bucket, _, self.prefix = uri.removeprefix("s3://").partition("/")
        self.folder = Path(uri)

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{name}"}

    def names(self) -> list[str]:
        if not self.s3:
            return sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        there = client().list_objects_v2(Bucket=self.bucket, Prefix=f"{self.prefix}/").get("Contents", [])
        return sorted(each["Key"].removeprefix(f"{self.prefix}/") for each in there)

    def read(self, name: str) -> bytes:
        return client().get_object(**self._at(name))["Body"].read() if self.s3 else (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        if self.s3:
            client().put_object(**self._at(name), Body=content)
        else:
            (self.folder / name).write_bytes(content)

    def delete(self, name: str) -> None:
        if self.s3:
            client().delete_object(**self._at(name))
        else:
            (self.folder / name).unlink()
