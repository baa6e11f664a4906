"""Where models lie in tests of stores: a bucket of an S3 server, or a folder that nginx serves."""

import itertools
import os
import pathlib
import shutil
import sys
import typing
import urllib.parse

import pytest
import weightd
from gate import Gate
from models import expected
from processes import Daemon, Nginx

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "servers"))

from s3 import Moto, Rgw, S3Server  # noqa: E402

__all__ = ["Bucket", "Folder", "Moto", "Rgw", "S3Server", "Shelf", "same"]

Daemons = typing.Callable[..., Daemon]

# Many small requests, so that there is something in the middle of a load.
SETTINGS = """
cache:
  revalidate: always
sources:
  http:
    chunk: 1MiB
    connections: 2
"""


def same(model: weightd.Model, path: pathlib.Path) -> bool:
    """Whether the model has the tensors of the file, byte for byte."""
    truth = expected(path)
    return set(model.tensors) == set(truth) and all(bytes(model.raw(name)) == data for name, data in truth.items())


class Shelf:
    """Where models lie, and a daemon that is told of it. The daemon's way there leads through `gate`."""

    daemon: Daemon
    gate: Gate

    def uri(self, key: str) -> str:
        raise NotImplementedError

    def put(self, path: pathlib.Path, key: str) -> str:
        """Stores a file and returns its URI."""
        raise NotImplementedError

    def delete(self, key: str) -> None:
        raise NotImplementedError

    def attach(self, uri: str) -> weightd.Model:
        return weightd.attach(uri, socket_dir=str(self.daemon.socket_dir), framework="np", timeout=60)

    def refusal(self, uri: str) -> weightd.Error:
        with pytest.raises(weightd.Error) as caught:
            self.attach(uri)
        return caught.value

    def end(self) -> None:
        self.gate.end()


class Bucket(Shelf):
    """A bucket of an S3 server. The daemon's credentials are `credentials`, by default from files."""

    def __init__(
        self,
        server: S3Server,
        name: str,
        daemons: Daemons,
        folder: pathlib.Path,
        secret: str = "",
        credentials: str = "",
    ) -> None:
        self.server, self.name = server, name
        self.client = server.client()
        self.client.create_bucket(Bucket=name)
        self.gate = Gate(server.endpoint.removeprefix("http://"))
        (folder / "secret").write_text((secret or server.secret_key) + "\n")
        credentials = credentials or f"{{access_key_id: {server.access_key}, secret_key_file: {folder}/secret}}"
        self.daemon = daemons(
            f"""{SETTINGS}
  s3:
    stores:
      - name: shelf
        buckets: ["{name}"]
        endpoint: http://{self.gate.address}
        credentials: {credentials}
"""
        )

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def put(self, path: pathlib.Path, key: str) -> str:
        self.client.upload_file(str(path), self.name, key)
        return self.uri(key)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


class Folder(Shelf):
    """A folder that nginx serves."""

    def __init__(self, daemons: Daemons, folder: pathlib.Path) -> None:
        self._root = folder / "served"
        self._root.mkdir()
        self._nginx = Nginx(folder / "nginx", self._root)
        self._stamps = itertools.count(1_600_000_000)
        self.gate = Gate(f"127.0.0.1:{self._nginx.port}")
        self.daemon = daemons(SETTINGS)

    def uri(self, key: str) -> str:
        return f"http://{self.gate.address}/{urllib.parse.quote(key)}"

    def put(self, path: pathlib.Path, key: str) -> str:
        """nginx makes the ETag of size and time, which therefore differs from file to file."""
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        shutil.copyfile(path, fresh)
        stamp = next(self._stamps)
        os.utime(fresh, (stamp, stamp))
        fresh.replace(target)
        return self.uri(key)

    def delete(self, key: str) -> None:
        (self._root / key).unlink()

    def end(self) -> None:
        super().end()
        self._nginx.end()
