"""The client where something is wrong: no daemon, one that fails, one that lies."""

from __future__ import annotations

import fcntl
import pickle
from pathlib import Path

import pytest
import weightd
from weightd.v1 import error_pb2, tensor_index_pb2

from fake_daemon import SEALS, model
from small_model import WEIGHTS, Python, Start, small


def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="no daemon at") as raised:
        weightd.attach("m", socket_dir=tmp_path)
    assert isinstance(raised.value, weightd.UnavailableError)
    assert (raised.value.reason, raised.value.model) == ("DAEMON_UNREACHABLE", "m")
    assert "weightd --socket-dir" in raised.value.hint


def test_the_folder_comes_from_the_environment(fake: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTD_DIR", str(fake({"m": small()}).directory))
    assert len(weightd.attach("m")) == 2


def test_a_folder_whose_path_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(weightd.UnavailableError, match="too long"):
        weightd.attach("m", socket_dir=tmp_path / ("x" * 120))


def test_the_daemons_errors_arrive_whole(fake: Start) -> None:
    with pytest.raises(weightd.NotFoundError, match="no such model") as raised:
        weightd.attach("none", socket_dir=fake({}).directory)
    caught = raised.value
    assert (caught.reason, caught.model, caught.hint) == ("MODEL_NOT_FOUND", "none", "check the name")
    again = pickle.loads(pickle.dumps(caught))
    assert type(again) is weightd.NotFoundError
    assert (str(again), again.reason, again.model) == (str(caught), caught.reason, caught.model)


def test_an_error_commands_no_terminal(fake: Start) -> None:
    detail = error_pb2.ErrorDetail(reason=error_pb2.LEASE_UNKNOWN, message="a\x1b[2J\n\x9b é", hint="\x7f")
    with pytest.raises(weightd.NotAllowedError) as raised:
        weightd.attach("m", socket_dir=fake({"m": small(claim_error=detail)}).directory)
    assert str(raised.value) == "a\\x1b[2J\\x0a\\u009b é [LEASE_UNKNOWN]; \\x7f"
    assert raised.value.message == detail.message


@pytest.mark.parametrize("evictions", [1, 2])
def test_a_lease_that_is_evicted_before_it_is_claimed_is_taken_once_more(fake: Start, evictions: int) -> None:
    served = small()
    gone = error_pb2.ErrorDetail(reason=error_pb2.LEASE_UNKNOWN, message="no such lease")
    outcomes = iter([gone] * evictions + [None])

    def evict() -> None:
        served.claim_error = next(outcomes)

    served.before_grant = evict
    daemon = fake({"m": served})
    if evictions == 1:
        with weightd.attach("m", socket_dir=daemon.directory, timeout=60) as m:
            assert bytes(m.raw("a")) == WEIGHTS
            assert daemon.claimed() == 1
    else:
        with pytest.raises(weightd.NotAllowedError, match="no such lease") as raised:
            weightd.attach("m", socket_dir=daemon.directory, timeout=60)
        assert raised.value.reason == "LEASE_UNKNOWN"
    assert next(outcomes, "none") == ("none" if evictions == 1 else None)
    daemon.wait_for_claimed(0)


@pytest.mark.parametrize("sha256", ["\udcff", {"\udcff": "a" * 64}, {"m.safetensors": "\ud800"}, {"m": 1}, 7])
def test_pins_that_cannot_be_sent(fake: Start, sha256: object) -> None:
    with pytest.raises(weightd.InvalidRequestError) as raised:
        weightd.attach("m", socket_dir=fake({"m": small()}).directory, sha256=sha256)  # type: ignore[arg-type]
    assert (raised.value.reason, raised.value.model) == ("INVALID_ARGUMENT", "m")
    str(raised.value).encode()


def test_every_reason_of_the_protocol_has_a_class() -> None:
    from weightd.errors import _CLASSES

    named = set(error_pb2.ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED", "INTERNAL"}
    assert named <= _CLASSES.keys()


def test_a_failed_claim(fake: Start) -> None:
    detail = error_pb2.ErrorDetail(reason=error_pb2.LEASE_UNKNOWN, message="too late", hint="again")
    with pytest.raises(weightd.NotAllowedError, match="too late"):
        weightd.attach("m", socket_dir=fake({"m": small(claim_error=detail)}).directory)


def test_a_newer_protocol_is_refused(fake: Start) -> None:
    daemon = fake({"m": small()})
    daemon.hello.protocol_version = 2
    with pytest.raises(weightd.InvalidRequestError, match="newer protocol"):
        weightd.attach("m", socket_dir=daemon.directory)


@pytest.mark.parametrize(
    ("option", "value"), [("device", "gpu"), ("device", "cuda"), ("device", "cuda:-1"), ("framework", "tf")]
)
def test_unknown_options(fake: Start, option: str, value: str) -> None:
    with pytest.raises(ValueError, match=value) as raised:
        weightd.attach("m", socket_dir=fake({"m": small()}).directory, **{option: value})  # type: ignore[arg-type]
    assert raised.value.hint  # type: ignore[attr-defined]


NO_WRITE_SEAL = SEALS & ~fcntl.F_SEAL_WRITE
NO_SHRINK_SEAL = SEALS & ~fcntl.F_SEAL_SHRINK


@pytest.mark.parametrize(
    "lie",
    [
        {"segment_seals": NO_WRITE_SEAL},
        {"segment_seals": NO_SHRINK_SEAL},
        {"index_seals": NO_WRITE_SEAL},
        {"claimed_bytes": 1 << 30},
        {"claimed_bytes": 4096 * 5},
        {"segment": b""},
    ],
)
def test_a_segment_that_is_not_as_promised_is_not_mapped(fake: Start, lie: dict[str, object]) -> None:
    daemon = fake({"m": small(**lie)})
    with pytest.raises(weightd.InternalError):
        weightd.attach("m", socket_dir=daemon.directory)
    daemon.wait_for_claimed(0)


def test_future_write_seals_are_good_enough(fake: Start) -> None:
    served = small(segment_seals=NO_WRITE_SEAL | 0x10)
    assert weightd.attach("m", socket_dir=fake({"m": served}).directory)["a"].sum() == 15


@pytest.mark.parametrize(
    ("field", "value"),
    [("offset", 4090), ("offset", 2**64 - 8), ("nbytes", 20), ("nbytes", 4096), ("dtype", 99), ("dtype", 0)],
)
def test_a_piece_outside_the_segment_is_not_touched(fake: Start, field: str, value: int) -> None:
    served = small()
    setattr(served.index.layout.pieces[0], field, value)
    m = weightd.attach("m", socket_dir=fake({"m": served}).directory)
    for use in (lambda: m["a"], lambda: m.raw("a"), m.state_dict):
        with pytest.raises(weightd.Error) as raised:
            use()
        assert raised.value.reason in ("INTERNAL", "UNSUPPORTED")
    assert m["b"].sum() == 15


def test_a_shape_that_overflows_is_not_believed(fake: Start) -> None:
    served = small()
    served.index.layout.pieces[0].shape[:] = [2**63, 2**62, 24]
    with pytest.raises(weightd.InternalError):
        weightd.attach("m", socket_dir=fake({"m": served}).directory)["a"]


def test_a_newer_tensor_index_is_refused(fake: Start) -> None:
    served = small()
    served.index.version = 2
    with pytest.raises(weightd.InvalidRequestError, match="version 2"):
        weightd.attach("m", socket_dir=fake({"m": served}).directory)


def test_several_pieces_of_one_tensor_are_refused(fake: Start) -> None:
    served = small()
    served.index.layout.pieces[1].name = "a"
    with pytest.raises(weightd.InvalidRequestError, match="pieces"):
        weightd.attach("m", socket_dir=fake({"m": served}).directory)["a"]


def test_an_index_of_garbage(fake: Start) -> None:
    class Garbage:
        segment_bytes = 4096

        def SerializeToString(self) -> bytes:
            return b"\xff" * 100

    served = small()
    served.index = Garbage()  # type: ignore[assignment]
    with pytest.raises(weightd.InternalError, match="can't be read"):
        weightd.attach("m", socket_dir=fake({"m": served}).directory)


def test_a_limit_on_private_memory(fake: Start, python: Python) -> None:
    """As under strict overcommit: the kernel refuses the private map, and the shared one serves."""
    content = bytes(64 << 20)
    daemon = fake({"m": model({"t": ("U8", [64 << 20], content)})})
    script = """
import resource, sys, warnings, torch, weightd
warnings.simplefilter("error")
torch.zeros(1)
in_use = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (in_use + (32 << 20), resource.RLIM_INFINITY))
tensor = weightd.attach("m", socket_dir=sys.argv[1], framework="pt")["t"]
print(tensor.shape[0], int(tensor[-1]))
"""
    done = python(script, daemon.directory)
    assert done.stdout == f"{64 << 20} 0\n", done.stderr


def test_index_messages_round_trip() -> None:
    """The committed code reads what it writes, with the runtime that is installed."""
    index = tensor_index_pb2.TensorIndex(version=1)
    index.layout.pieces.add(name="a", shape=[2**63], strides=[-1])
    assert tensor_index_pb2.TensorIndex.FromString(index.SerializeToString()) == index
