"""Operators over TCP: who gets in, who doesn't, and certificates that are replaced while it runs."""

import contextlib
import datetime
import pathlib
import socket
import ssl
import subprocess
import typing

import grpc
import pytest
from certificates import AdminClient, Authority, Certificate, Secrets
from loglines import line_of, lines_of
from models import small_model
from processes import PATIENCE, Daemon, binary, wait_until
from weightd.v1 import admin_pb2, error_pb2, weights_pb2

Daemons = typing.Callable[..., Daemon]


class Site:
    """A daemon with administration over TCP, its authority, and operators' authority."""

    def __init__(self, daemons: Daemons, folder: pathlib.Path, allowed: typing.Sequence[str] = ()) -> None:
        self.nodes = Authority(folder, "nodes")
        self.operators = Authority(folder, "operators")
        self.folder = folder
        self.secrets = Secrets(folder / "secret")
        self.secrets.put(self.nodes.issue("node", "DNS:node.example"), self.operators.certificate)
        self.daemon = daemons(self.secrets.config("127.0.0.1:0", allowed))
        self.port = int(line_of(self.daemon, "daemon.serving")["admin_tcp"].rsplit(":", 1)[1])
        self._clients: list[AdminClient] = []

    def client(self, own: Certificate | None, authority: Authority | None = None) -> AdminClient:
        self._clients.append(AdminClient(self.port, (authority or self.nodes).certificate, own))
        return self._clients[-1]

    def operator(self, name: str = "op", alternative: str = "DNS:op.example") -> AdminClient:
        return self.client(self.operators.issue(name, alternative))

    def refuses(self, own: Certificate | None, why: str) -> None:
        """A client with this certificate gets nowhere, and the log says why."""
        client = self.client(own)
        with pytest.raises(grpc.RpcError) as caught:
            client.status()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        client.close()
        wait_until(
            lambda: [line for line in lines_of(self.daemon, "audit.refused") if why in line["error"]],
            f"a line that says {why!r}: {lines_of(self.daemon, 'audit.refused')}",
        )

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def sites(daemons: Daemons, tmp_path: pathlib.Path) -> typing.Iterator[typing.Callable[..., Site]]:
    made: list[Site] = []

    def make(allowed: typing.Sequence[str] = ()) -> Site:
        folder = tmp_path / f"site{len(made)}"
        folder.mkdir()
        made.append(Site(daemons, folder, allowed))
        return made[-1]

    yield make
    for site in made:
        site.close()


def test_operators_with_a_certificate_do_what_they_do_on_the_socket(
    sites: typing.Callable[..., Site], files: pathlib.Path
) -> None:
    site = sites()
    model = str(small_model(files / "m.safetensors"))
    client = site.operator()
    assert client.status().listeners[0].name == "default"
    progress = list(client.stream("Preload", admin_pb2.PreloadRequest(model=model), admin_pb2.PreloadResponse))
    assert progress[-1].model.model.endswith("m.safetensors")
    assert client.call("Evict", admin_pb2.EvictRequest(model=model), admin_pb2.EvictResponse).freed_bytes > 0
    line = line_of(site.daemon, "audit.admin", method="Evict")
    assert (line["listener"], line["certificate"], line["outcome"]) == ("admin-tcp", "op.example", "OK")
    assert line["address"].startswith("127.0.0.1:")
    assert "uid" not in line


def test_a_port_that_is_taken_is_said(sites: typing.Callable[..., Site], daemons: Daemons) -> None:
    site = sites()
    second = daemons(site.secrets.config(f"127.0.0.1:{site.port}"), wait=False)
    assert second.process is not None
    assert second.process.wait(PATIENCE) == 64
    assert second.log().splitlines()[-2:] == [
        f"weightd: admin.tcp: listen on 127.0.0.1:{site.port}: Address already in use",
        "  another process listens there (`ss -ltnp` says which): end it, or configure another port",
    ]
    second.process = None


def test_large_answers_and_many_callers_get_through(sites: typing.Callable[..., Site], files: pathlib.Path) -> None:
    site = sites()
    own = site.operators.issue("op")
    for i in range(40):
        small_model(files / f"{i:02}" / "m.safetensors", seed=i)
    first = site.client(own)
    for i in range(40):
        request = admin_pb2.PreloadRequest(model=str(files / f"{i:02}" / "m.safetensors"))
        list(first.stream("Preload", request, admin_pb2.PreloadResponse))
    clients = [site.client(own) for _ in range(20)]
    for client in clients * 3:
        answer = client.call(
            "ListModels", weights_pb2.ListModelsRequest(page_size=1000), weights_pb2.ListModelsResponse
        )
        assert len(answer.models) == 40


def test_without_a_right_certificate_nobody_gets_in(sites: typing.Callable[..., Site]) -> None:
    site = sites()
    site.refuses(None, "peer did not return a certificate")
    strangers = Authority(site.folder, "strangers")
    site.refuses(strangers.issue("op", "DNS:op.example"), "unable to get local issuer certificate")
    site.refuses(site.operators.issue("op", "DNS:op.example", expired=True), "certificate has expired")
    assert site.operator().status()


@pytest.mark.parametrize(
    ("who", "alert"), [("nobody", "certificate required"), ("expired", "expired"), ("stranger", "unknown ca")]
)
def test_who_is_refused_is_told_why(sites: typing.Callable[..., Site], who: str, alert: str) -> None:
    site = sites()
    context = ssl.create_default_context(cafile=str(site.nodes.certificate))
    context.set_alpn_protocols(["h2"])
    if who != "nobody":
        authority = site.operators if who == "expired" else Authority(site.folder, "strangers")
        own = authority.issue("op", expired=who == "expired")
        context.load_cert_chain(own.certificate, own.key)
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
        client = context.wrap_socket(connection, server_hostname="node.example")
        # More than the handshake takes, which nobody reads.
        client.sendall(b"x" * 10000)
        with pytest.raises(ssl.SSLError, match=f"(?i){alert}".replace(" ", "[ _]")):
            client.recv(1)


def test_only_allowed_names_get_in(sites: typing.Callable[..., Site]) -> None:
    site = sites(["*.ops.example", "spiffe://example/ops/*", "root"])
    assert site.operator("x", "DNS:other.example,DNS:anna.ops.example").status()
    assert site.operator("x", "URI:spiffe://example/ops/bert").status()
    assert site.operator("root", "").status()
    assert line_of(site.daemon, "daemon.serving")
    site.refuses(site.operators.issue("x", "DNS:ops.example.evil"), "ops.example.evil")
    site.refuses(site.operators.issue("x", "URI:spiffe://example/ops/a/b"), "spiffe://example/ops/a/b")
    # The common name counts only where there is no other.
    site.refuses(site.operators.issue("root", "DNS:guest.example"), "guest.example")


def test_other_protocols_are_refused(sites: typing.Callable[..., Site]) -> None:
    site = sites()
    own = site.operators.issue("op")
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        # An alert of TLS, if anything, and the end.
        with contextlib.suppress(ConnectionResetError):
            while received := plain.recv(4096):
                assert b"HTTP" not in received
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(site.nodes.certificate)
    context.load_cert_chain(own.certificate, own.key)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=20) as old,
        pytest.raises(ssl.SSLError, match="(?i)version"),
    ):
        context.wrap_socket(old, server_hostname="node.example")
    wait_until(lambda: len(lines_of(site.daemon, "audit.refused")) >= 2, "both are in the log")
    assert {line["method"] for line in lines_of(site.daemon, "audit.refused")} == {"Connect"}
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as new:
        assert context.wrap_socket(new, server_hostname="node.example").version() == "TLSv1.3"


def test_certificates_replaced_while_it_runs(sites: typing.Callable[..., Site]) -> None:
    site = sites()
    before = site.operators.issue("before")
    lasting = site.client(before)
    assert lasting.status()
    successors = Authority(site.folder, "successors")
    new_nodes = Authority(site.folder, "new-nodes")
    site.secrets.put(new_nodes.issue("node", "DNS:node.example"), successors.certificate)
    assert "CN=node" in line_of(site.daemon, "admin.certificate_replaced")["subject"]
    assert site.client(successors.issue("after"), new_nodes).status()
    with pytest.raises(grpc.RpcError):
        site.client(before, new_nodes).status()
    # Connections that are open stay.
    assert lasting.status()


def test_bad_certificates_leave_the_old_ones_in_place(sites: typing.Callable[..., Site]) -> None:
    site = sites()
    own = site.operators.issue("op")
    right = site.nodes.issue("node", "DNS:node.example")
    site.secrets.put(Certificate(right.certificate, own.key), site.operators.certificate)
    refused = line_of(site.daemon, "admin.certificate_refused")
    assert "not the key of the certificate" in refused["error"]
    assert site.client(own).status()
    site.secrets.put(right, site.operators.certificate)
    line_of(site.daemon, "admin.certificate_replaced")
    assert site.client(own).status()
    # Written in place, and gone.
    site.secrets.certificate.resolve().write_text("rubbish")
    wait_until(lambda: len(lines_of(site.daemon, "admin.certificate_refused")) == 2, "rubbish is refused")
    site.secrets.client_ca.resolve().unlink()
    wait_until(lambda: len(lines_of(site.daemon, "admin.certificate_refused")) == 3, "a missing file is refused")
    assert site.client(own).status()


def test_a_certificate_that_is_not_valid_keeps_its_successor_waiting(sites: typing.Callable[..., Site]) -> None:
    site = sites()
    own = site.operators.issue("op")
    site.secrets.put(site.nodes.issue("node", "DNS:node.example", expired=True), site.operators.certificate)
    assert "the certificate expired at 2" in line_of(site.daemon, "admin.certificate_refused")["error"]
    assert site.client(own).status()
    begin = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=12)
    early = site.nodes.issue("node", "DNS:node.example", begin=begin)
    site.secrets.put(early, site.operators.certificate)
    wait_until(lambda: len(lines_of(site.daemon, "admin.certificate_refused")) == 2, "it is too early for it")
    assert "is not valid before 2" in lines_of(site.daemon, "admin.certificate_refused")[1]["error"]
    assert site.client(own).status()
    # Its files don't change any more.
    assert "CN=node" in line_of(site.daemon, "admin.certificate_replaced")["subject"]
    assert datetime.datetime.now(datetime.UTC) > begin - datetime.timedelta(seconds=1)
    assert site.client(own).status()


def test_a_certificate_that_is_expired_or_nearly_is_said(daemons: Daemons, tmp_path: pathlib.Path) -> None:
    authority = Authority(tmp_path, "nodes")
    secrets = Secrets(tmp_path / "secret")
    secrets.put(authority.issue("node", "DNS:node.example", expired=True), authority.certificate)
    config = secrets.config("127.0.0.1:0")
    daemon = daemons(config)
    line = line_of(daemon, "admin.certificate_invalid")
    assert (line["level"], line["subject"]) == ("error", "CN=node")
    assert "tls.crt: the certificate expired at " in line["error"]
    (tmp_path / "weightd.yaml").write_text(config)
    check = [binary("daemon/weightd"), "--config", str(tmp_path / "weightd.yaml"), "--check-config"]
    assert "the certificate expired at" in subprocess.run(check, capture_output=True, text=True, check=True).stderr
    # Within a week, as it is said when it takes the other's place.
    secrets.put(authority.issue("node", "DNS:node.example"), authority.certificate)
    line_of(daemon, "admin.certificate_replaced")
    line = line_of(daemon, "admin.certificate_expires")
    expires = datetime.datetime.fromisoformat(line["expires"])
    assert line["level"] == "warning" and expires > datetime.datetime.now(datetime.UTC)
    gauge = f"weightd_admin_certificate_expiry_timestamp_seconds {int(expires.timestamp())}"
    assert gauge in daemon.ctl("metrics").stdout
    assert subprocess.run(check, capture_output=True, text=True, check=True).stderr == ""
    secrets.key.resolve().unlink()
    assert "tls.key: No such file" in subprocess.run(check, capture_output=True, text=True, check=True).stderr


def test_silent_connections_keep_nobody_out(sites: typing.Callable[..., Site]) -> None:
    site = sites()
    silent = [socket.create_connection(("127.0.0.1", site.port), timeout=20) for _ in range(200)]
    assert site.operator().status()
    for connection in silent:
        connection.close()


def test_a_key_comes_only_over_the_socket(sites: typing.Callable[..., Site], files: pathlib.Path) -> None:
    site = sites()
    model = str(small_model(files / "m.safetensors"))
    request = admin_pb2.PreloadRequest(model=model, secret=admin_pb2.Secret(key=b"s" * 32))
    with pytest.raises(grpc.RpcError) as caught:
        list(site.operator().stream("Preload", request, admin_pb2.PreloadResponse))
    trailing = dict(caught.value.trailing_metadata())  # type: ignore[attr-defined]
    assert error_pb2.ErrorDetail.FromString(trailing["weightd-error-bin"]).reason == error_pb2.UNSUPPORTED
    line = line_of(site.daemon, "audit.admin", method="Preload")
    assert line["request_id"] == trailing["weightd-request-id"]
    assert "ssss" not in site.daemon.log()


def test_it_stops_while_callers_watch(sites: typing.Callable[..., Site]) -> None:
    site = sites()
    client = site.operator()
    events = client.stream("WatchEvents", admin_pb2.WatchEventsRequest(), admin_pb2.WatchEventsResponse)
    events.initial_metadata()
    assert site.daemon.stop() == 0
    with pytest.raises(grpc.RpcError):
        list(events)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda s: s.key.resolve().unlink(), "tls.key"),
        (lambda s: s.certificate.resolve().write_text(""), "tls.crt: no certificate in PEM"),
        (lambda s: s.client_ca.resolve().write_text("x"), "ca.crt: no certificate in PEM"),
        (lambda s: s.key.resolve().write_text("x"), "tls.key: no key in PEM"),
    ],
)
def test_it_does_not_start_without_right_files(
    daemons: Daemons, tmp_path: pathlib.Path, damage: typing.Callable[[Secrets], object], says: str
) -> None:
    authority = Authority(tmp_path, "nodes")
    secrets = Secrets(tmp_path / "secret")
    secrets.put(authority.issue("node"), authority.certificate)
    damage(secrets)
    daemon = daemons(secrets.config("127.0.0.1:0"), wait=False)
    assert daemon.process is not None
    try:
        assert daemon.process.wait(20) != 0
    except subprocess.TimeoutExpired:
        pytest.fail("it started")
    assert "admin.tcp: " in daemon.log()
    assert says in daemon.log()
    daemon.process = None
