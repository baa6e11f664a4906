"""Nobody gets through the daemon what they could not be given."""

import http.server
import os
import pathlib
import threading
import typing

import grpc
import pytest
import weightd
from models import small_model
from processes import Daemon, Nginx
from users import NOBODY, as_user
from weightd._deadline import Deadline
from weightd._grpc import Call, CallFailed
from weightd.v1 import weights_pb2
from wire import RawSession

Daemons = typing.Callable[..., Daemon]


class Shared:
    """A daemon with a listener that others reach: below one root, and by the alias."""

    def __init__(self, daemons: Daemons, files: pathlib.Path, folder: pathlib.Path) -> None:
        self.allowed = small_model(files / "open" / "m.safetensors")
        self.other = small_model(files / "closed" / "m.safetensors", seed=2)
        (files / "open" / "link.safetensors").symlink_to(self.other)
        self.folder = folder / "shared"
        self.daemon = daemons(
            f"""
listeners:
  - name: own
    directory: {folder}/own
  - name: shared
    directory: {self.folder}
    mode: 0755
    access:
      attach: ["file://{files}/open/**", "http://**"]
      load: ["file://{files}/open/**", "http://**"]
sources:
  file:
    roots: ["{files}/open"]
"""
        )


@pytest.fixture
def shared(daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path) -> Shared:
    return Shared(daemons, files, tmp_path)


def refusal(socket_dir: pathlib.Path, model: str) -> weightd.Error:
    with pytest.raises(weightd.Error) as caught:
        weightd.attach(model, socket_dir=str(socket_dir), timeout=20)
    return caught.value


def test_what_matches_is_served(shared: Shared) -> None:
    with weightd.attach(str(shared.allowed), socket_dir=str(shared.folder), framework="np") as model:
        assert "embed.weight" in model.tensors


@pytest.mark.parametrize(
    "model",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "file://{open}/../closed/m.safetensors",
        "file://{open}/%2e%2e/closed/m.safetensors",
        "file://{open}/..%2fclosed/m.safetensors",
        "file://{open}/link.safetensors",
        "file://{closed}/m.safetensors",
        "file:///proc/self/environ",
        "no-such-alias",
    ],
)
def test_paths_outside_are_refused_without_a_word_about_them(shared: Shared, files: pathlib.Path, model: str) -> None:
    name = model.format(open=files / "open", closed=files / "closed")
    error = refusal(shared.folder, name)
    assert error.reason in {"NOT_ALLOWED", "INVALID_URI", "SOURCE_DENIED", "ADDRESS_REFUSED"}
    assert "root:" not in str(error)


def test_absent_and_forbidden_look_the_same(shared: Shared, files: pathlib.Path) -> None:
    present = refusal(shared.folder, f"file://{files}/closed/m.safetensors")
    absent = refusal(shared.folder, f"file://{files}/closed/x.safetensors")
    assert present.reason == absent.reason
    assert str(present).replace("m.safe", "x.safe") == str(absent)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "127.0.0.1", "[::1]", "[::ffff:169.254.169.254]", "localhost", "0.0.0.0", "[fe80::1]"],
)
def test_addresses_that_clients_may_not_reach(shared: Shared, address: str) -> None:
    assert refusal(shared.folder, f"http://{address}:9/latest/meta-data").reason == "ADDRESS_REFUSED"


def test_redirect_to_link_local(daemons: Daemons, tmp_path: pathlib.Path) -> None:
    class Redirect(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/iam")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path / "shared"
    daemons(
        f"""
listeners:
  - name: shared
    directory: {folder}
    mode: 0755
    access:
      load: ["http://**"]
      attach: ["http://**"]
sources:
  http:
    allowed_networks: ["127.0.0.0/8"]
"""
    )
    error = refusal(folder, f"http://127.0.0.1:{server.server_port}/m.safetensors")
    assert error.reason == "ADDRESS_REFUSED"
    server.shutdown()


def test_attach_right_alone_loads_nothing(daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    folder = tmp_path / "shared"
    daemon = daemons(
        f"listeners:\n  - {{name: own, directory: {tmp_path}/own}}\n"
        f"  - {{name: shared, directory: {folder}, mode: 0755, access: {{attach: ['**']}}}}\n"
    )
    assert refusal(folder, str(path)).reason in {"MODEL_NOT_RESIDENT", "NOT_ALLOWED"}
    daemon.ctl("preload", str(path))
    weightd.attach(str(path), socket_dir=str(folder), framework="np").close()


def code_of(call: typing.Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code()  # type: ignore[attr-defined]


def test_tokens_and_leases_of_others(shared: Shared, tmp_path: pathlib.Path) -> None:
    own = RawSession(tmp_path / "own")
    lease = own.acquire(str(shared.allowed))
    listing = weights_pb2.ListModelsRequest(), weights_pb2.ListModelsResponse
    thief = RawSession(shared.folder, token=own.token)
    assert code_of(lambda: thief.call("ListModels", *listing)) == grpc.StatusCode.UNAUTHENTICATED
    nobody = RawSession(shared.folder, token="0" * 32)
    assert code_of(lambda: nobody.call("ListModels", *listing)) == grpc.StatusCode.UNAUTHENTICATED
    stranger = RawSession(tmp_path / "own")
    release = weights_pb2.ReleaseRequest(lease_id=lease), weights_pb2.ReleaseResponse
    assert code_of(lambda: stranger.call("Release", *release)) == grpc.StatusCode.NOT_FOUND
    stranger.send_claim(lease)
    reply, fds = stranger.receive()
    assert reply.HasField("failed") and not fds
    assert len(own.claim(lease)) == 2
    for session in (own, thief, nobody, stranger):
        session.close()


def test_a_token_is_bound_to_its_user(
    daemons: Daemons, files: pathlib.Path, reachable: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    daemons(
        f"listeners:\n  - {{name: own, directory: {tmp_path}/own}}\n"
        f"  - {{name: shared, directory: {reachable}, mode: 0755, access: {{attach: ['**']}}}}\n"
    )
    session = RawSession(reachable)
    request = weights_pb2.ListModelsRequest()

    def list_models() -> int:
        """The status of the call with the token, made without gRPC's library, which does not survive a fork."""
        metadata = {"weightd-session": session.token}
        path, method = reachable / "weightd.sock", "/weightd.v1.Weights/ListModels"
        try:
            with Call(path, method, request.SerializeToString(), metadata, Deadline(20)) as call:
                list(call)
        except CallFailed as failed:
            return failed.code
        return grpc.StatusCode.OK.value[0]

    assert as_user(os.getuid(), list_models) == grpc.StatusCode.OK.value[0]
    assert as_user(NOBODY, list_models) == grpc.StatusCode.UNAUTHENTICATED.value[0]
    session.close()


def test_listings_show_only_what_a_listener_may_see(shared: Shared, web: Nginx) -> None:
    shared.daemon.ctl("preload", str(shared.other))
    session = RawSession(shared.folder)
    listed = session.call("ListModels", weights_pb2.ListModelsRequest(), weights_pb2.ListModelsResponse)
    assert not [m.model for m in listed.models if "closed" in m.model]
    session.close()


def test_no_port_no_secret(shared: Shared, files: pathlib.Path) -> None:
    inodes = {
        os.readlink(f"/proc/{shared.daemon.pid}/fd/{fd}")
        for fd in os.listdir(f"/proc/{shared.daemon.pid}/fd")
        if os.path.islink(f"/proc/{shared.daemon.pid}/fd/{fd}")
    }
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            assert not (fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes), "the daemon listens on TCP"
    session = RawSession(shared.folder)
    weightd_error = refusal(shared.folder, "http://user:hunter2@127.0.0.1:9/m?X-Amz-Signature=hunter2")
    assert "hunter2" not in str(weightd_error) + weightd_error.model
    assert "hunter2" not in shared.daemon.log()
    assert session.token not in shared.daemon.log()
    session.close()
