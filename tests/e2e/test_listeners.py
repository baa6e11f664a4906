"""What the clients of one listener may do: a matrix of listeners, rights, models, outcomes; owners, quotas, rates."""

import os
import pathlib
import signal
import socket
import stat
import subprocess
import typing

import pytest
import weightd
from models import even_model, small_model
from outcomes import ABSENT, FULL, NO, OK, outcome, resident
from processes import Daemon, Reader, binary, wait_until
from users import NOBODY, as_user
from weightd.v1 import weights_pb2
from wire import RawSession, close_all

Daemons = typing.Callable[..., Daemon]
Readers = typing.Callable[[Daemon], Reader]

MIB = 1 << 20
STRANGER = 61234

# Models by the names that clients give them. Held and hidden are on the config's list and resident, listed is on the
# list only; open, private and elsewhere are files that no list names.
NAMES = {
    "held": "held",
    "held's URI": "file://{files}/open/held.safetensors",
    "hidden": "hidden",
    "hidden's other alias": "also-hidden",
    "hidden's URI": "file://{files}/open/hidden.safetensors",
    "listed": "listed",
    "listed's URI": "file://{files}/open/listed.safetensors",
    "open": "{files}/open/open.safetensors",
    "private": "{files}/open/private/p.safetensors",
    "elsewhere": "{files}/closed/c.safetensors",
    "unknown name": "nobody-knows",
}
LOADABLE = ("listed's URI", "open", "private", "elsewhere")

LISTENERS = """
  - {{name: own, directory: {folder}/own}}
  - name: but
    directory: {folder}/but
    access: {{deny: ["hidden", "file://{files}/open/private"]}}
  - name: attach
    directory: {folder}/attach
    mode: 0755
    access: {{attach: ["**"]}}
  - name: by-alias
    directory: {folder}/by-alias
    mode: 0755
    access: {{attach: ["held"]}}
  - name: listed
    directory: {folder}/listed
    mode: 0755
    access: {{attach: ["**"], load_configured: ["*"]}}
  - name: load
    directory: {folder}/load
    mode: 0755
    access: {{attach: ["file://{files}/open/*"], load: ["file://{files}/open/**"]}}
  - name: deny
    directory: {folder}/deny
    mode: 0755
    access:
      attach: ["**"]
      load_configured: ["*"]
      load: ["file://{files}/open/**"]
      deny: ["also-*", "file://{files}/open/private/*"]
  - name: narrow
    directory: {folder}/narrow
    mode: 0755
    max_bytes: 1MiB
    access: {{attach: ["**"], load: ["file://{files}/open/**"], deny: ["hidden"]}}
"""

# For each listener the outcome of each name, in their order.
MATRIX: dict[str, list[str]] = {
    #          held  URI  hidden alias URI  listed  URI     open    private elsewhere unknown
    "own": [OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, "INVALID_URI"],
    "but": [OK, OK, NO, NO, NO, OK, OK, OK, NO, OK, NO],
    "attach": [OK, OK, OK, OK, OK, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, NO],
    "by-alias": [OK, OK, NO, NO, NO, NO, NO, NO, NO, NO, NO],
    "listed": [OK, OK, OK, OK, OK, OK, OK, ABSENT, ABSENT, ABSENT, NO],
    "load": [OK, OK, OK, OK, OK, OK, OK, OK, OK, NO, NO],
    "deny": [OK, OK, NO, NO, NO, OK, OK, OK, NO, ABSENT, NO],
    "narrow": [FULL, FULL, NO, NO, NO, FULL, FULL, FULL, FULL, ABSENT, NO],
}


class Node:
    """A daemon with those listeners and models."""

    def __init__(self, daemons: Daemons, files: pathlib.Path, folder: pathlib.Path) -> None:
        self.folder = folder
        self.names = {name: text.format(files=files) for name, text in NAMES.items()}
        for i, name in enumerate(("held", "hidden", "listed", "open", "private/p")):
            small_model(files / "open" / f"{name}.safetensors", seed=i + 1)
        small_model(files / "closed" / "c.safetensors", seed=9)
        uri = f"file://{files}/open/"
        self.daemon = daemons(
            f"listeners:{LISTENERS.format(folder=folder, files=files)}"
            f"models:\n"
            f"  - {{name: held, uri: '{uri}held.safetensors', preload: true}}\n"
            f"  - {{name: hidden, uri: '{uri}hidden.safetensors', preload: true}}\n"
            f"  - {{name: also-hidden, uri: '{uri}hidden.safetensors'}}\n"
            f"  - {{name: listed, uri: '{uri}listed.safetensors'}}\n"
            f"sources:\n  file:\n    roots: ['{files}/open']\n"
        )
        wait_until(lambda: len(resident(self.daemon)) == 2, "the preloads are there")

    def forget(self) -> None:
        """Evicts what clients loaded."""
        for name in LOADABLE:
            self.daemon.ctl("evict", self.names[name], check=False)


@pytest.fixture
def node(daemons: Daemons, files: pathlib.Path, reachable: pathlib.Path) -> Node:
    return Node(daemons, files, reachable)


def holder_outcome(folder: pathlib.Path, model: str) -> bool:
    """Whether an attach by the C++ client succeeds."""
    done = subprocess.run(
        [binary("tests/e2e/holder"), str(folder), model], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert done.returncode in (0, 70), done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("listener", sorted(MATRIX))
def test_matrix(node: Node, listener: str) -> None:
    found = []
    for name in NAMES:
        found.append(outcome(node.folder / listener, node.names[name]))
        if found[-1] == OK and name in (*LOADABLE, "listed"):
            node.forget()
    assert dict(zip(NAMES, found, strict=True)) == dict(zip(NAMES, MATRIX[listener], strict=True))
    for name in ("held", "hidden", "hidden's URI", "unknown name"):
        wanted = MATRIX[listener][list(NAMES).index(name)] == OK
        assert holder_outcome(node.folder / listener, node.names[name]) == wanted, name


@pytest.mark.parametrize("listener", ["attach", "deny", "narrow"])
def test_matrix_of_another_user(node: Node, listener: str) -> None:
    folder = node.folder / listener
    for name in ("held", "hidden", "hidden's URI", "private", "unknown name"):
        wanted = MATRIX[listener][list(NAMES).index(name)]
        assert as_user(NOBODY, lambda name=name: outcome(folder, node.names[name])) == wanted, name  # type: ignore[misc]


def test_denied_models_are_not_listed_and_answer_as_unknown_ones(node: Node) -> None:
    folder = str(node.folder / "but")

    def error(model: str) -> weightd.Error:
        with pytest.raises(weightd.Error) as caught:
            weightd.attach(model, socket_dir=folder, framework="np", timeout=20)
        return caught.value

    unknown = error("nobody-knows")
    for name in ("hidden", "hidden's URI", "private"):
        denied = error(node.names[name])
        assert (denied.message, denied.reason, denied.hint) == (unknown.message, unknown.reason, unknown.hint)
    session = RawSession(node.folder / "but")
    listed = session.call("ListModels", weights_pb2.ListModelsRequest(), weights_pb2.ListModelsResponse)
    session.close()
    assert [model.aliases[0] for model in listed.models] == ["held", "listed"]


def connects(path: pathlib.Path) -> bool:
    """Whether this user gets to that socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def owned(folder: pathlib.Path, own: pathlib.Path, owner: str, mode: str) -> str:
    return (
        f"listeners:\n  - {{name: own, directory: {own}}}\n"
        f"  - name: theirs\n    directory: {folder}\n    owner: '{owner}'\n    mode: {mode}\n"
        f"    access: {{attach: ['**']}}\n"
    )


@pytest.mark.parametrize(
    ("owner", "mode", "in_there"),
    [
        (f"{STRANGER}", "0700", {STRANGER}),
        (f":{STRANGER}", "0750", {STRANGER}),
        (f"{STRANGER}:{NOBODY}", "0750", {STRANGER, NOBODY}),
        ("root", "0755", {STRANGER, NOBODY, STRANGER + 1}),
    ],
)
def test_owners_and_modes_let_in_just_those_they_name(
    daemons: Daemons,
    files: pathlib.Path,
    reachable: pathlib.Path,
    tmp_path: pathlib.Path,
    owner: str,
    mode: str,
    in_there: set[int],
) -> None:
    path = small_model(files / "m.safetensors")
    folder = reachable / "theirs"
    daemon = daemons(owned(folder, tmp_path / "own", owner, mode))
    daemon.ctl("preload", str(path))
    for uid in (STRANGER, NOBODY, STRANGER + 1):
        wanted = OK if uid in in_there else NO
        assert as_user(uid, lambda: outcome(folder, str(path))) == wanted, uid
        assert as_user(uid, lambda: connects(folder / "weightd.sock")) == (uid in in_there)
    modes = {"0700": 0o600, "0750": 0o660, "0755": 0o666}
    for name in ("weightd.sock", "handles.sock"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == modes[mode]
        assert (folder / name).stat().st_uid == folder.stat().st_uid
        assert (folder / name).stat().st_gid == folder.stat().st_gid
    assert outcome(folder, str(path)) == OK  # root gets in everywhere


def test_a_given_folder_is_served_again_whatever_became_of_it(
    daemons: Daemons, files: pathlib.Path, reachable: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = small_model(files / "m.safetensors")
    folder = reachable / "theirs"
    daemon = daemons(owned(folder, tmp_path / "own", str(STRANGER), "0700"))
    daemon.kill()

    def obstruct() -> None:
        for name in ("weightd.sock", "handles.sock", "weightd.lock"):
            (folder / name).unlink()
        (folder / "weightd.sock").mkdir()
        (folder / "weightd.sock" / "full").touch()
        (folder / "handles.sock").symlink_to("/etc/passwd")
        os.mkfifo(folder / "weightd.lock")
        folder.chmod(0)

    as_user(STRANGER, obstruct)
    passwd = os.stat("/etc/passwd")
    daemon.start()
    daemon.ctl("preload", str(path))
    assert as_user(STRANGER, lambda: outcome(folder, str(path))) == OK
    assert os.stat("/etc/passwd").st_mode == passwd.st_mode
    assert os.stat("/etc/passwd").st_uid == passwd.st_uid
    assert daemon.stop() == 0
    assert not (folder / "weightd.sock").exists()


def test_a_folder_whose_parent_is_missing_is_said(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "weightd.yaml"
    config.write_text(f"listeners:\n  - {{name: jobs, directory: {tmp_path}/absent/jobs}}\n")
    done = subprocess.run(
        [binary("daemon/weightd"), "--config", str(config), "--socket-dir", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 64
    assert f"there is no {tmp_path}/absent" in done.stderr and "make the folder" in done.stderr


def test_without_the_right_to_give_it_away_the_daemon_says_so(reachable: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = tmp_path / "weightd.yaml"
    config.write_text(owned(reachable / "theirs", tmp_path / "own", str(STRANGER), "0700"))
    done = subprocess.run(
        ["setpriv", "--bounding-set=-chown", "--inh-caps=-chown", binary("daemon/weightd"), "--config", str(config),
         "--socket-dir", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "listener theirs" in done.stderr + done.stdout
    assert "CAP_CHOWN" in done.stderr + done.stdout
    assert (reachable / "theirs").stat().st_uid == os.getuid()


class Quota:
    """A daemon whose listener `jobs` may hold 5 MiB, with models of 3 MiB."""

    def __init__(self, daemons: Daemons, files: pathlib.Path, folder: pathlib.Path) -> None:
        self.models = [str(even_model(files / f"{i}.safetensors", 3 * MIB, 3, seed=i)) for i in range(3)]
        self.folder = folder / "jobs"
        self.daemon = daemons(
            f"listeners:\n  - {{name: own, directory: {folder}/own}}\n"
            f"  - {{name: jobs, directory: {self.folder}, mode: 0755, max_bytes: 5MiB, "
            f"access: {{attach: ['**'], load: ['file://{files}/*']}}}}\n"
            f"sources:\n  file:\n    roots: ['{files}']\n"
        )
        self.daemon.ctl("preload", self.models[0])

    def held(self) -> tuple[int, int]:
        """Whole MiB that its clients lease, and that they map though they let go of them."""
        jobs = next(one for one in self.daemon.status()["listeners"] if one["name"] == "jobs")
        assert int(jobs["max_bytes"]) == 5 * MIB
        return int(jobs.get("leased_bytes", 0)) // MIB, int(jobs.get("draining_bytes", 0)) // MIB


@pytest.fixture
def quota(daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path) -> Quota:
    return Quota(daemons, files, tmp_path)


@pytest.fixture
def jobs(quota: Quota) -> typing.Iterator[typing.Callable[[], Reader]]:
    """Starts client processes of that listener and ends them."""
    started: list[Reader] = []

    def start() -> Reader:
        started.append(Reader(quota.folder))
        return started[-1]

    yield start
    for reader in started:
        if reader.process.poll() is None:
            reader.kill()


def test_a_quota_is_of_all_clients_together(quota: Quota, jobs: typing.Callable[[], Reader]) -> None:
    first, second = jobs(), jobs()
    first.ask("attach", model=quota.models[0])
    second.ask("attach", model=quota.models[0])
    assert quota.held() == (3, 0)
    with pytest.raises(weightd.NoRoomError) as caught:
        weightd.attach(quota.models[1], socket_dir=str(quota.folder), framework="np", timeout=20)
    error = caught.value
    assert error.reason == "QUOTA_EXCEEDED"
    for said in (quota.models[1], "5.00 MiB (5242880 bytes)", "listener jobs", "they lease 3.", "release models"):
        assert said in str(error), str(error)
    assert resident(quota.daemon) == [f"file://{quota.models[0]}"]
    assert "5.0 MiB" in quota.daemon.ctl("status").stdout
    assert outcome(quota.folder.parent / "own", quota.models[1]) == OK
    first.ask("release")
    assert outcome(quota.folder, quota.models[1]) == "QUOTA_EXCEEDED"
    second.kill()
    wait_until(lambda: quota.held() == (0, 0), "the killed client holds nothing")
    assert outcome(quota.folder, quota.models[1]) == OK


def test_what_clients_still_map_of_an_evicted_model_counts(quota: Quota, jobs: typing.Callable[[], Reader]) -> None:
    reader = jobs()
    reader.ask("attach", model=quota.models[0])
    quota.daemon.ctl("evict", "--force", quota.models[0])
    wait_until(lambda: quota.held() == (0, 3), "the evicted model drains")
    assert outcome(quota.folder, quota.models[1]) == "QUOTA_EXCEEDED"
    reader.process.send_signal(signal.SIGKILL)
    reader.process.wait()
    wait_until(lambda: quota.held() == (0, 0), "nothing is mapped any more")
    assert outcome(quota.folder, quota.models[1]) == OK


def test_what_clients_keep_when_they_give_their_lease_back_counts(quota: Quota) -> None:
    session = RawSession(quota.folder)
    lease = session.acquire(quota.models[0])
    kept = session.claim(lease)
    assert quota.held() == (3, 0)
    session.call("Release", weights_pb2.ReleaseRequest(lease_id=lease), weights_pb2.ReleaseResponse)
    session.close()
    assert quota.held() == (0, 3)
    assert resident(quota.daemon) == [f"file://{quota.models[0]}"]
    assert outcome(quota.folder, quota.models[1]) == "QUOTA_EXCEEDED"
    close_all(kept)
    wait_until(lambda: quota.held() == (0, 0), "nothing is open any more")
    assert outcome(quota.folder, quota.models[1]) == OK


@pytest.fixture
def slowed(
    daemons: Daemons, files: pathlib.Path, reachable: pathlib.Path, tmp_path: pathlib.Path
) -> typing.Callable[[str], tuple[pathlib.Path, pathlib.Path, str]]:
    """Starts a daemon whose listener has this limit: its folder, that of one without, and a model that is there."""

    def start(limit: str) -> tuple[pathlib.Path, pathlib.Path, str]:
        path = small_model(files / "m.safetensors")
        slow, own = reachable / "slow", tmp_path / "own"
        daemon = daemons(
            f"listeners:\n  - {{name: own, directory: {own}}}\n"
            f"  - {{name: slow, directory: {slow}, mode: 0755, {limit}, access: {{attach: ['**']}}}}\n"
        )
        daemon.ctl("preload", str(path))
        return slow, own, str(path)

    return start


def test_rates_are_of_one_user_of_one_listener(
    slowed: typing.Callable[[str], tuple[pathlib.Path, pathlib.Path, str]],
) -> None:
    slow, own, path = slowed("calls_per_second: 2")

    def refusal() -> str:
        """What is said once too many calls were made."""
        for _ in range(100):
            try:
                weightd.attach(path, socket_dir=str(slow), framework="np", timeout=20).close()
            except weightd.Error as error:
                return str(error)
        return ""

    said = refusal()
    assert "TOO_MANY_REQUESTS" in said
    assert f"user {os.getuid()} makes more calls a second than listener slow" in said
    assert "try again in " in said
    assert as_user(NOBODY, lambda: outcome(slow, path)) == OK
    assert outcome(own, path) == OK
    wait_until(lambda: outcome(slow, path) == OK, "calls pass again")


def test_connections_beyond_the_rate_are_closed(
    slowed: typing.Callable[[str], tuple[pathlib.Path, pathlib.Path, str]],
) -> None:
    slow, own, path = slowed("connections_per_second: 5")

    def greeted() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(slow / "handles.sock"))
            connection.settimeout(20)
            try:
                return connection.recv(65536) != b""
            except ConnectionResetError:
                return False

    def flood() -> list[bool]:
        return [greeted() for _ in range(200)]

    answers = flood()
    assert answers[:2] == [True, True]
    assert answers.count(False) > 50
    assert as_user(NOBODY, lambda: outcome(slow, path)) == OK
    assert outcome(own, path) == OK
    wait_until(greeted, "connections pass again")
