"""Who did what, and what came of it: the audit lines of the log, request ids, and the log's level."""

import datetime
import json
import os
import pathlib
import socket
import typing

import grpc
import pytest
import weightd
from loglines import line_of, lines_of
from models import small_model
from processes import Daemon, wait_until
from users import NOBODY, as_user
from weightd.v1 import admin_pb2, error_pb2, handles_pb2, weights_pb2
from wire import RawSession, close_all

Daemons = typing.Callable[..., Daemon]


def admin(daemon: Daemon, method: str, request: typing.Any, response: typing.Any) -> typing.Any:
    """One unary call on admin.sock."""
    with grpc.insecure_channel(f"unix:{daemon.socket_dir}/admin.sock") as channel:
        return channel.unary_unary(f"/weightd.v1.Admin/{method}", type(request).SerializeToString, response.FromString)(
            request, timeout=20
        )


def set_level(daemon: Daemon, level: str) -> str:
    """The level before."""
    answer = admin(daemon, "SetLogLevel", admin_pb2.SetLogLevelRequest(level=level), admin_pb2.SetLogLevelResponse)
    return str(answer.previous)


def test_attaches_say_who_and_what(daemon: Daemon, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    with weightd.attach(str(path), socket_dir=daemon.socket_dir, framework="np"):
        pass
    line = line_of(daemon, "audit.attach")
    assert (line["listener"], line["uid"], line["gid"]) == ("default", os.getuid(), os.getgid())
    assert line["model"] == f"file://{path}"
    assert (line["method"], line["outcome"], line["level"]) == ("Acquire", "OK", "info")
    assert line["duration_ms"] > 0
    assert len(line["request_id"]) == 16
    # What it set off can be found by it.
    for event in ("load.started", "load.finished"):
        assert line_of(daemon, event)["request_id"] == line["request_id"]

    with pytest.raises(weightd.Error):
        weightd.attach(f"{path}.absent", socket_dir=daemon.socket_dir)
    failed = line_of(daemon, "audit.attach", outcome="MODEL_NOT_FOUND")
    assert failed["error"]
    assert failed["request_id"] != line["request_id"]
    assert line_of(daemon, "load.failed")["request_id"] == failed["request_id"]


def test_users_are_told_apart(daemons: Daemons, reachable: pathlib.Path, tmp_path: pathlib.Path) -> None:
    daemon = daemons(
        f"listeners:\n  - {{name: own, directory: {tmp_path}/own}}\n"
        f"  - {{name: shared, directory: {reachable}, mode: 0755, access: {{attach: ['https://host/**']}}}}\n"
    )

    claim = handles_pb2.HandleRequest(claim=handles_pb2.Claim(lease_id=5)).SerializeToString()

    def connect() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as session:
            session.connect(str(reachable / "handles.sock"))
            session.recv(65536)
            session.send(claim)
            session.recv(65536)

    as_user(NOBODY, connect)
    line = line_of(daemon, "audit.refused", method="Claim")
    assert (line["listener"], line["uid"], line["gid"]) == ("shared", NOBODY, NOBODY)
    assert line["details"] == "lease=5"
    session = RawSession(reachable)
    with pytest.raises(grpc.RpcError):
        session.acquire("https://elsewhere/m")
    session.close()
    assert line_of(daemon, "audit.attach")["outcome"] == "NOT_ALLOWED"


def test_operators_calls_on_a_clients_socket_are_refused(daemon: Daemon) -> None:
    with grpc.insecure_channel(f"unix:{daemon.socket_dir}/weightd.sock") as channel:
        for method in ("DrainNode", "ResumeNode", "Evict", "GetStatus"):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/weightd.v1.Admin/{method}")(b"", timeout=20)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
            detail = error_pb2.ErrorDetail.FromString(dict(refused.value.trailing_metadata())["weightd-error-bin"])
            assert detail.reason == error_pb2.NOT_ALLOWED
            assert method in detail.message and "admin.sock" in detail.hint
            line = line_of(daemon, "audit.refused", method="Admin", details=method)
            assert (line["listener"], line["uid"], line["outcome"]) == ("default", os.getuid(), "NOT_ALLOWED")
        with pytest.raises(grpc.RpcError) as unknown:
            channel.unary_unary("/weightd.v1.Admin/Nothing")(b"", timeout=20)
        assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert not daemon.status().get("draining")
    assert not lines_of(daemon, "audit.admin")


def test_each_action_of_operators_is_written_down(daemon: Daemon, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    daemon.ctl("preload", str(path), "--pin")
    daemon.ctl("unpin", str(path))
    daemon.ctl("pin", str(path))
    daemon.ctl("evict", str(path), check=False)
    daemon.ctl("evict", str(path), "--force")
    daemon.ctl("drain", "--gpu", "7", check=False)
    daemon.ctl("ls")
    actions = wait_until(
        lambda: [lines for lines in [lines_of(daemon, "audit.admin")] if len(lines) == 6], "six actions"
    )[0]
    assert [(line["method"], line["outcome"]) for line in actions] == [
        ("Preload", "OK"),
        ("Unpin", "OK"),
        ("Pin", "OK"),
        ("Evict", "MODEL_PINNED"),
        ("Evict", "OK"),
        ("DrainGpu", "DEVICE_UNAVAILABLE"),
    ]
    assert {(line["listener"], line["uid"]) for line in actions} == {("admin", os.getuid())}
    assert [line.get("details") for line in actions] == ["pin", None, None, None, "force", "gpu=7"]
    assert actions[0]["model"] == f"file://{path}"


def test_the_level_changes_while_it_runs_and_no_action_goes_missing(daemon: Daemon) -> None:
    daemon.ctl("ls")
    assert not lines_of(daemon, "audit.call")
    assert set_level(daemon, "debug") == "info"
    daemon.ctl("ls")
    assert line_of(daemon, "audit.call", method="ListModels")["level"] == "debug"
    assert set_level(daemon, "error") == "debug"
    status = admin(daemon, "GetStatus", admin_pb2.GetStatusRequest(), admin_pb2.GetStatusResponse)
    assert status.log_level == "error"
    daemon.ctl("evict", "/absent", check=False)
    assert line_of(daemon, "audit.admin", method="Evict")["outcome"] == "MODEL_NOT_RESIDENT"
    changed = lines_of(daemon, "log.level_changed")
    assert [(line["from"], line["to"]) for line in changed] == [("info", "debug"), ("debug", "error")]
    assert [line["details"] for line in lines_of(daemon, "audit.admin", method="SetLogLevel")] == [
        "level=debug",
        "level=error",
    ]
    with pytest.raises(grpc.RpcError) as caught:
        set_level(daemon, "loud")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_a_failed_call_tells_its_id(daemon: Daemon) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        admin(daemon, "Evict", admin_pb2.EvictRequest(model="/absent"), admin_pb2.EvictResponse)
    trailing = dict(caught.value.trailing_metadata())  # type: ignore[attr-defined]
    assert line_of(daemon, "audit.admin")["request_id"] == trailing["weightd-request-id"]


def seconds(line: dict[str, typing.Any]) -> float:
    """When it was written, in Unix time."""
    return datetime.datetime.fromisoformat(line["time"]).timestamp()


def test_a_flood_of_refusals_leaves_few_lines_and_their_number(daemon: Daemon) -> None:
    flood = 3000
    session = RawSession(daemon.socket_dir)
    for _ in range(flood):
        session.send_claim(99)
        session.receive()
    with pytest.raises(grpc.RpcError):
        session.call("Release", weights_pb2.ReleaseRequest(lease_id=99), weights_pb2.ReleaseResponse)
    session.close()
    assert daemon.stop() == 0
    left_out = lines_of(daemon, "audit.left_out", kind="refused")
    times = [seconds(line) for line in lines_of(daemon, "audit.refused")]
    assert sum(line["lines"] for line in left_out) == flood + 1 - len(times)
    # A burst of 20, and one a second from then on, however long that was; two for what lies between meter and line.
    assert 20 <= len(times) <= 22 + times[-1] - times[0]
    assert {line["who"] for line in left_out} == {f"default uid {os.getuid()}"}


def test_a_flood_of_loads_leaves_few_and_short_lines_and_their_number(daemon: Daemon, files: pathlib.Path) -> None:
    flood = 200
    session = RawSession(daemon.socket_dir)
    for i in range(flood):
        with pytest.raises(grpc.RpcError):
            session.acquire(f"{files}/{i}/" + "y/" * 3000)
    # An operator's are all written.
    absent = f"{files}/absent.safetensors"
    daemon.ctl("preload", absent, check=False)
    session.close()
    assert daemon.stop() == 0
    kinds = ("load.started", "load.failed")
    lines = [line for kind in kinds for line in lines_of(daemon, kind)]
    assert [line["model"] for line in lines if line["model"].endswith("absent.safetensors")] == [f"file://{absent}"] * 2
    theirs = [line for line in lines if not line["model"].endswith("absent.safetensors")]
    times = [seconds(line) for line in theirs]
    assert 200 <= len(times) <= 202 + 2 * (max(times) - min(times))
    left_out = lines_of(daemon, "load.left_out")
    assert sum(line["lines"] for line in left_out) == 2 * flood - len(theirs)
    assert {line["who"] for line in left_out} == {f"default uid {os.getuid()}"}
    assert max(len(text) for text in daemon.log().splitlines()) < 4000
    assert all("(cut: " in line["model"] for line in theirs)


def test_no_secret_gets_into_the_log(daemons: Daemons, files: pathlib.Path) -> None:
    daemon = daemons("log:\n  level: debug\n")
    path = small_model(files / "m.safetensors")
    session = RawSession(daemon.socket_dir)
    close_all(session.claim(session.acquire(str(path))))
    for model in (
        "https://user:hunter2@127.0.0.1:9/m.safetensors?X-Amz-Signature=hunter2",
        "https://user:hunter2@[broken/m?hunter2",
        "hunter2@name?hunter2#hunter2",
    ):
        with pytest.raises(grpc.RpcError):
            session.acquire(model)
        daemon.ctl("evict", model, check=False)
        daemon.ctl("pin", model, check=False)
    wait_until(lambda: len(lines_of(daemon, "audit.attach")) == 4, "all attaches are in the log")
    wait_until(lambda: len(lines_of(daemon, "audit.admin")) == 6, "all actions are in the log")
    session.close()
    assert session.token not in daemon.log()
    assert "hunter2" not in daemon.log()


def test_every_line_is_json_whatever_callers_send(daemon: Daemon) -> None:
    session = RawSession(daemon.socket_dir)
    with pytest.raises(grpc.RpcError):
        session.acquire('https://host/"}\n{"event":"audit.admin"\x00\u2028' + "x" * 2000)
    session.close()
    line_of(daemon, "audit.attach")
    for text in daemon.log().removesuffix("\n").split("\n"):
        assert json.loads(text)["event"]
    assert not lines_of(daemon, "audit.admin")
