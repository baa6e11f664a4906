"""Authorities and certificates for tests, made with openssl, and admin calls over TCP with them."""

import datetime
import os
import pathlib
import subprocess
import typing

import grpc
from weightd.v1 import admin_pb2

# Of a time, as openssl reads it.
FORM = "%Y%m%d%H%M%SZ"


class Certificate(typing.NamedTuple):
    """PEM files."""

    certificate: pathlib.Path
    key: pathlib.Path


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


class Authority:
    """Signs certificates."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def issue(
        self, name: str, alternative: str = "", expired: bool = False, begin: datetime.datetime | None = None
    ) -> Certificate:
        """A certificate of the common name `name`, with subject alternative names as openssl writes them.

        It is valid from `begin`, or from long ago, until tomorrow.
        """
        stem = self._folder / f"{self._name}-{len(list(self._folder.glob('*.csr')))}"
        made = Certificate(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        request, extensions = stem.with_suffix(".csr"), stem.with_suffix(".ext")
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(made.key), "-out", str(request)),
        )
        extensions.write_text(f"subjectAltName={alternative}\n" if alternative else "")
        database = stem.with_suffix(".db")
        database.write_text("")
        config = stem.with_suffix(".cnf")
        config.write_text(
            f"[ca]\ndefault_ca=a\n[a]\ndatabase={database}\nnew_certs_dir={self._folder}\nrand_serial=yes\n"
            "default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
        )
        start = begin or datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=-1 if expired else 1)
        _openssl(
            *("ca", "-batch", "-notext", "-config", str(config), "-cert", str(self.certificate)),
            *("-keyfile", str(self._key), "-in", str(request), "-out", str(made.certificate)),
            *("-extfile", str(extensions), "-startdate", start.strftime(FORM), "-enddate", end.strftime(FORM)),
        )
        return made


class Secrets:
    """A folder as Kubernetes mounts a secret: its files lead through one symbolic link, which is swapped."""

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._version = 0
        self.certificate, self.key, self.client_ca = (folder / name for name in ("tls.crt", "tls.key", "ca.crt"))
        for path in (self.certificate, self.key, self.client_ca):
            path.symlink_to(pathlib.Path("..data") / path.name)

    def put(self, own: Certificate, client_ca: pathlib.Path) -> None:
        """Swaps all three files at once."""
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.mkdir()
        (version / "tls.crt").write_bytes(own.certificate.read_bytes())
        (version / "tls.key").write_bytes(own.key.read_bytes())
        (version / "ca.crt").write_bytes(client_ca.read_bytes())
        link = self._folder / "..next"
        link.symlink_to(version.name)
        os.replace(link, self._folder / "..data")

    def config(self, address: str, allowed: typing.Sequence[str] = ()) -> str:
        """The part of a config that names them."""
        return (
            f"admin:\n  tcp:\n    address: '{address}'\n    certificate_file: {self.certificate}\n"
            f"    key_file: {self.key}\n    client_ca_file: {self.client_ca}\n"
            f"    allowed_names: {list(allowed)}\n"
        )


class AdminClient:
    """Admin calls over TCP; each client has a connection of its own."""

    def __init__(self, port: int, authority: pathlib.Path, own: Certificate | None = None) -> None:
        credentials = grpc.ssl_channel_credentials(
            authority.read_bytes(),
            own.key.read_bytes() if own else None,
            own.certificate.read_bytes() if own else None,
        )
        self._channel = grpc.secure_channel(
            f"127.0.0.1:{port}",
            credentials,
            options=[("grpc.ssl_target_name_override", "node.example"), ("grpc.use_local_subchannel_pool", 1)],
        )

    def call(self, method: str, request: typing.Any, response: typing.Any, timeout: float = 20) -> typing.Any:
        """One call that is answered once."""
        return self._channel.unary_unary(
            f"/weightd.v1.Admin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )(request, timeout=timeout)

    def stream(self, method: str, request: typing.Any, response: typing.Any, timeout: float = 20) -> typing.Any:
        """One call that is answered with a stream, to be read."""
        return self._channel.unary_stream(
            f"/weightd.v1.Admin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )(request, timeout=timeout)

    def status(self) -> typing.Any:
        """GetStatus."""
        return self.call("GetStatus", admin_pb2.GetStatusRequest(), admin_pb2.GetStatusResponse)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()
