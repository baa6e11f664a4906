"""Servers with one folder of files, `models`, and how each contender names a file there."""

import pathlib
import typing

from processes import Nginx
from s3 import Rgw

BUCKET = "models"
REGION = {"AWS_REGION": Rgw.region, "AWS_DEFAULT_REGION": Rgw.region}


class Stage:
    """A server and its files, until the end of the block."""

    config = ""  # what weightd's configuration must say about it
    env: dict[str, str]  # S3's endpoint and keys, where libraries look for them

    def uri(self, name: str) -> str:
        """A file for weightd."""
        raise NotImplementedError

    def url(self, name: str) -> str:
        """A file for plain GETs."""
        raise NotImplementedError

    def end(self) -> None:
        """Stops the server."""
        raise NotImplementedError

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def key(name: str) -> str:
    """A file for S3 libraries."""
    return f"s3://{BUCKET}/{name}"


class NginxStage(Stage):
    """Plain HTTP. What S3 libraries ask for is a GET or HEAD of /BUCKET/KEY: nginx answers that as well, unsigned."""

    def __init__(self, folder: pathlib.Path, files: pathlib.Path) -> None:
        (folder / "www").mkdir()
        (folder / "www" / BUCKET).symlink_to(files)
        self._web = Nginx(folder / "nginx", folder / "www")
        self.env = {**REGION, "AWS_ENDPOINT_URL": self._web.url("").rstrip("/")}

    def uri(self, name: str) -> str:
        return self.url(name)

    def url(self, name: str) -> str:
        return self._web.url(f"{BUCKET}/{name}")

    def end(self) -> None:
        self._web.end()


class RgwStage(Stage):
    """Ceph's RADOS Gateway, with keys. Plain GETs are presigned."""

    def __init__(self, folder: pathlib.Path, files: pathlib.Path) -> None:
        paths = sorted(files.iterdir())
        stored = sum(path.stat().st_size for path in paths)
        self._server = Rgw(folder, memory_bytes=stored * 3 // 2 + (1 << 30))
        self._client = self._server.client()
        self._client.create_bucket(Bucket=BUCKET)
        for path in paths:
            self._client.upload_file(str(path), BUCKET, path.name)
        (folder / "secret").write_text(self._server.secret_key)
        self.config = f"""
sources:
  s3:
    stores:
      - name: bench
        buckets: ["{BUCKET}"]
        endpoint: {self._server.endpoint}
        credentials:
          access_key_id: {self._server.access_key}
          secret_key_file: {folder}/secret
"""
        self.env = {
            **REGION,
            "AWS_ENDPOINT_URL": self._server.endpoint,
            "AWS_ACCESS_KEY_ID": self._server.access_key,
            "AWS_SECRET_ACCESS_KEY": self._server.secret_key,
        }

    def uri(self, name: str) -> str:
        return key(name)

    def url(self, name: str) -> str:
        return str(
            self._client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": name}, ExpiresIn=86400)
        )

    def end(self) -> None:
        self._server.end()


STAGES: dict[str, typing.Callable[[pathlib.Path, pathlib.Path], Stage]] = {
    "nginx": NginxStage,
    "rgw": RgwStage,
}
