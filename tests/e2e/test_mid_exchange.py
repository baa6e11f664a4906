"""Daemon, keeper or both killed before every single packet of what they say to one another, and of what a client and
its daemon do. Whatever is left then is served whole or loaded anew, and nothing stays that nobody knows."""

import collections
import contextlib
import hashlib
import itertools
import mmap
import os
import pathlib
import signal
import tempfile
import time
import typing

import grpc
import pytest
import weightd
from keepers import Keeper
from kept_parts import content, rank
from models import expected, small_model
from processes import INSTRUMENTED, PATIENCE, Daemon, Nginx, Reader, wait_until
from relay import Packet, Relay
from shelves import same
from wire import RawSession

Daemons = typing.Callable[..., Daemon]
Readers = typing.Callable[[Daemon], Reader]
# What a restart may take.
READY = PATIENCE if INSTRUMENTED else 2.0
# A request and its answer for each of card, weights, index.
PARTS = 3
EXCHANGE = 2 * PARTS
# Greeting, request for the list, the parts, the list's end.
TAKE_BACK = 3 + PARTS

VICTIMS = pytest.mark.parametrize("victim", ["daemon", "keeper", "both"])


def stored(packets: typing.Iterable[Packet]) -> set[bytes]:
    """What a keeper was told to keep."""
    return {packet.data for packet in packets if packet.request and packet.data.startswith(b"FDSTORE=1")}


class Node:
    """A daemon that reaches its keeper through a relay, and a model on a web server."""

    def __init__(self, folder: pathlib.Path, daemons: Daemons, web: Nginx, files: pathlib.Path) -> None:
        self._daemons = daemons
        self._web = web
        self._path = small_model(files / "m.safetensors")
        self.model = web.url(self._path.name)
        digest = hashlib.sha256()
        for _, data in sorted(expected(self._path).items()):
            digest.update(data)
        self._digest = digest.hexdigest()
        (folder / "relay").mkdir(mode=0o700)
        self.keeper = Keeper(folder / "keeper").__enter__()
        sockets = (folder / "relay/keeper.sock", folder / "keeper/keeper.sock")
        self.relay = Relay(*sockets, keeps=lambda data: b".card\n" in data).__enter__()
        self._config = f"keeper_dir: {folder}/relay\ncache: {{revalidate: never}}\n"
        self.daemon = daemons(self._config)
        # Requests of one load, and of all so far.
        self._ranked = False
        self.load()
        self._each = self._seen = wait_until(self._requests, "the load is in the web server's log")
        self.assert_nothing_stays()

    def _requests(self) -> int:
        return len(self._web.requests("m.safetensors"))

    def kill(self, victim: str) -> None:
        """SIGKILL."""
        if victim != "daemon":
            assert self.keeper.process is not None
            self.keeper.process.kill()
            self.keeper.process.wait()
        if victim != "keeper":
            self.daemon.kill()

    def following_daemon(self) -> Daemon:
        """One for the same folder, not started yet."""
        return self._daemons(self._config, socket_dir=self.daemon.socket_dir, run=False)

    def revive_keeper(self) -> None:
        """Starts it again if it is dead."""
        assert self.keeper.process is not None
        if self.keeper.process.poll() is not None:
            self.keeper.__enter__()

    def come_back(self) -> None:
        """Starts again whichever is dead, and waits until the daemon serves."""
        self.revive_keeper()
        assert self.daemon.process is not None
        begin = time.monotonic()
        if self.daemon.process.poll() is not None:
            self.daemon.start()
        wait_until(self.daemon.serves, "the daemon serves", READY)
        assert time.monotonic() - begin < READY

    def readopted(self) -> bool:
        """Whether the model is there, and an earlier daemon loaded it."""
        models = self.daemon.ctl_json("ls").get("models", [])
        return any(model.get("readopted", False) for model in models)

    def note_rank(self) -> None:
        """What the model's card says now, if it has passed."""
        cards = [packet.fds[0] for packet in self.relay.passed(there=True) if b".card\n" in packet.data and packet.fds]
        self._ranked = any(rank(content(fd)) > 0 for fd in cards)

    def published(self) -> bool:
        """Whether the daemon that died at that connection had told the keeper all of the model, and granted it."""
        return self._ranked and len(stored(self.relay.passed(there=True))) == PARTS

    def listed(self) -> bool:
        """Whether the daemon was told all that the keeper held, on that connection."""
        return any(packet.data.startswith(b"END=1") for packet in self.relay.passed(there=True))

    def handed_over(self) -> bool:
        """Whether another keeper was told all of the model before somebody asked it what it holds."""
        told = itertools.takewhile(lambda packet: b"FDLIST=1" not in packet.data, self.relay.passed(there=False))
        return len(stored(told)) == PARTS

    def kept(self) -> None:
        """Waits until all of the model is; of one that is left there may be something, too."""

        def whole() -> bool:
            places = [name.split(".")[1] for name in self.keeper.names()]
            return PARTS in collections.Counter(places).values()

        wait_until(whole, "the model is kept")
        self.quiet()

    def quiet(self) -> None:
        """Waits until each request was answered."""
        wait_until(self.relay.answered, "each request was answered")

    def load(self) -> None:
        """The model is resident and kept."""
        self.daemon.ctl("preload", self.model)
        self.kept()

    def draining(self) -> int:
        """Bytes."""
        return int(self.daemon.status()["host"].get("draining", 0))

    def assert_loads(self, count: int) -> None:
        """So many since the last time. The web server writes its log after an answer, not before."""

        self._seen += count * self._each
        wait_until(lambda: self._requests() >= self._seen, f"{count} loads")
        assert self._requests() == self._seen

    def assert_bytes(self, client: Reader) -> None:
        assert client.ask("digest")["digest"] == self._digest

    def assert_serves(self, socket_dir: pathlib.Path | None = None) -> None:
        """Right bytes to somebody new."""
        folder = socket_dir or self.daemon.socket_dir
        with weightd.attach(self.model, socket_dir=folder, timeout=60, framework="np") as newcomer:
            assert same(newcomer, self._path)

    def assert_nothing_stays(self) -> None:
        """Once all is evicted, in the daemon's accounts, in the keeper's list and among its descriptors."""

        def left() -> dict[str, int]:
            host = self.daemon.status()["host"]
            return {what: int(host[what]) for what in ("resident", "draining", "loading") if int(host.get(what, 0))}

        wait_until(lambda: self.daemon.status().get("leases", 0) == 0, "leases end")
        self.daemon.ctl("evict", self.model, check=False)
        wait_until(lambda: not self.keeper.names(), "the keeper has let go of all")
        wait_until(lambda: not left(), "so has the daemon")
        assert self.keeper.process is not None
        links = [os.readlink(link) for link in pathlib.Path(f"/proc/{self.keeper.process.pid}/fd").iterdir()]
        assert not [link for link in links if link.startswith("/memfd:")]
        self.quiet()

    def end(self) -> None:
        self.relay.__exit__(None, None, None)
        assert self.keeper.process is not None
        if self.keeper.process.poll() is None:
            self.keeper.__exit__(None, None, None)


@pytest.fixture
def node(daemons: Daemons, web: Nginx, files: pathlib.Path) -> typing.Iterator[Node]:
    # A short path: a socket's address has room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="weightd-") as folder:
        node = Node(pathlib.Path(folder), daemons, web, files)
        yield node
        node.end()


@VICTIMS
def test_in_a_publish(node: Node, readers: Readers, victim: str) -> None:
    for number in range(EXCHANGE):
        client = readers(node.daemon)

        def killed() -> None:
            node.kill(victim)
            node.note_rank()

        node.relay.at(number, killed)
        client.send("attach", model=node.model)
        wait_until(node.relay.happened, "it happens")
        node.come_back()
        # Whether it was granted already is chance, once the keeper has all of it.
        published = victim == "daemon" and node.published()
        assert not published or number >= EXCHANGE - 2
        # By itself, over the next daemon if it has to.
        assert "error" not in client.answer()
        node.assert_bytes(client)
        node.assert_serves()
        client.end()
        node.kept()
        assert node.readopted() == published
        node.assert_loads(1 if victim == "keeper" or published else 2)
        node.assert_nothing_stays()


@VICTIMS
def test_in_a_publish_whose_client_has_it(node: Node, readers: Readers, victim: str) -> None:
    for number in range(EXCHANGE):
        client = readers(node.daemon)

        def attached_first(client: Reader = client) -> None:
            assert "error" not in client.answer()
            node.kill(victim)

        node.relay.at(number, attached_first)
        client.send("attach", model=node.model)
        wait_until(node.relay.happened, "it happens")
        node.come_back()
        # The keeper has all of it, or gets it again.
        whole = victim == "keeper" or (victim == "daemon" and number >= EXCHANGE - 2)
        assert node.readopted() == (whole and victim == "daemon")
        node.assert_bytes(client)
        node.assert_serves()
        node.assert_loads(1 if whole else 2)
        node.kept()
        node.daemon.kill()
        node.come_back()
        node.assert_bytes(client)
        node.assert_serves()
        node.assert_loads(0)
        client.end()
        node.kept()
        node.assert_nothing_stays()


@VICTIMS
def test_in_an_eviction(node: Node, victim: str) -> None:
    for number in range(EXCHANGE):
        node.load()
        node.relay.at(number, lambda: node.kill(victim))
        node.daemon.ctl("evict", node.model, check=False)
        wait_until(node.relay.happened, "it happens")
        node.come_back()
        assert node.daemon.ctl_json("ls").get("models", []) == []
        wait_until(lambda: not node.keeper.names(), "the keeper has let go of all")
        node.assert_serves()
        node.assert_loads(2)
        node.kept()
        node.assert_nothing_stays()


@contextlib.contextmanager
def mapped(node: Node) -> typing.Iterator[mmap.mmap]:
    """The model's memory in this process, of which no daemon knows any more."""
    session = RawSession(node.daemon.socket_dir)
    weights, *others = session.claim(session.acquire(node.model))
    memory = mmap.mmap(weights, 0, prot=mmap.PROT_READ)
    for fd in (weights, *others):
        os.close(fd)
    session.close()
    wait_until(lambda: node.daemon.status().get("leases", 0) == 0, "the lease ends")
    yield memory
    memory.close()


@VICTIMS
def test_in_an_eviction_of_what_a_client_maps(node: Node, victim: str) -> None:
    for number in range(EXCHANGE):
        node.load()
        with mapped(node) as memory:
            before = hashlib.sha256(memory).digest()
            node.relay.at(number, lambda: node.kill(victim))
            node.daemon.ctl("evict", node.model, check=False)
            # The index leaves at once, since nobody maps it.
            if number < 2:
                wait_until(node.relay.happened, "it happens while the client maps it")
                node.come_back()
            if number >= 2 or victim != "both":
                wait_until(lambda: node.draining() >= len(memory), "what is mapped drains")
            assert node.daemon.ctl_json("ls").get("models", []) == []
            assert hashlib.sha256(memory).digest() == before
        wait_until(node.relay.happened, "it happens when the client lets go")
        node.come_back()
        assert node.daemon.ctl_json("ls").get("models", []) == []
        wait_until(lambda: not node.keeper.names(), "the keeper has let go of all")
        node.assert_serves()
        node.assert_loads(2)
        node.kept()
        node.assert_nothing_stays()


@VICTIMS
def test_while_the_next_daemon_takes_back(node: Node, readers: Readers, victim: str) -> None:
    client = readers(node.daemon)
    for number in range(TAKE_BACK):
        node.load()
        node.assert_loads(1)
        client.ask("attach", model=node.model)
        node.daemon.stop()
        node.relay.at(number, lambda: node.kill(victim))
        node.daemon.start(wait=False)
        wait_until(node.relay.happened, "it happens")
        node.come_back()
        # What only the keeper had is gone with it, unless all of it was on its way already.
        lost = victim == "both" or (victim == "keeper" and not node.listed())
        assert lost or victim == "daemon" or number >= 2
        assert node.readopted() == (not lost)
        node.assert_bytes(client)
        node.assert_serves()
        node.assert_loads(1 if lost else 0)
        node.kept()
        client.ask("release")
        node.assert_nothing_stays()


@VICTIMS
def test_while_another_keeper_is_told(node: Node, victim: str) -> None:
    for number in range(1 + EXCHANGE):
        node.load()
        node.assert_loads(1)
        node.kill("keeper")
        # It is the first packet that greets the daemon.
        node.relay.at(number, lambda: node.kill(victim))
        node.revive_keeper()
        wait_until(node.relay.happened, "it happens")
        node.come_back()
        whole = victim == "keeper" or (victim == "daemon" and number >= EXCHANGE - 1)
        assert node.readopted() == (whole and victim == "daemon")
        node.assert_serves()
        node.assert_loads(0 if whole else 1)
        node.kept()
        node.assert_nothing_stays()


@pytest.mark.parametrize("victim", ["nobody", "daemon", "keeper", "both"])
def test_in_a_publish_whose_daemon_hands_over(node: Node, readers: Readers, victim: str) -> None:
    for number in range(EXCHANGE):
        client = readers(node.daemon)
        first, following = node.daemon, node.following_daemon()

        def told_to_end(client: Reader = client, first: Daemon = first, following: Daemon = following) -> None:
            assert "error" not in client.answer()
            os.kill(first.pid, signal.SIGTERM)
            wait_until(lambda: not (first.socket_dir / "handles.sock").exists(), "it serves no more")
            following.start(wait=False)
            wait_until(lambda: "folder.waiting" in following.log(), "the next one waits for the folder")
            if victim != "nobody":
                node.kill(victim)

        node.relay.at(number, told_to_end)
        client.send("attach", model=node.model)
        wait_until(node.relay.happened, "it happens")
        node.revive_keeper()
        assert first.process is not None
        first.process.wait(PATIENCE)
        node.daemon = following
        node.come_back()
        # The first one ends only when the keeper has all of it, or hangs for too long.
        whole = {
            "nobody": "keeper.unfinished" not in first.log(),
            "daemon": number >= EXCHANGE - 2,
            "keeper": node.handed_over(),
            "both": False,
        }[victim]
        assert node.readopted() == whole
        node.assert_bytes(client)
        node.assert_serves()
        node.assert_loads(1 if whole else 2)
        client.end()
        node.kept()
        node.assert_nothing_stays()


@pytest.mark.parametrize("victim", ["daemon", "both"])
def test_before_a_lease_is_claimed(node: Node, victim: str) -> None:
    node.load()
    session = RawSession(node.daemon.socket_dir)
    lease = session.acquire(node.model)
    node.kill(victim)
    with pytest.raises(BrokenPipeError):
        session.send_claim(lease)
    with pytest.raises(grpc.RpcError):
        session.acquire(node.model)
    session.close()
    node.come_back()
    assert node.daemon.status().get("leases", 0) == 0
    node.assert_serves()
    node.assert_loads(2 if victim == "both" else 1)
    node.kept()
    node.assert_nothing_stays()


@VICTIMS
def test_in_a_claim(node: Node, readers: Readers, victim: str) -> None:
    """Before the greeting, the claim and its answer, of a client that goes on by itself."""
    with tempfile.TemporaryDirectory(prefix="weightd-") as name:
        folder = pathlib.Path(name)
        (folder / "weightd.sock").symlink_to(node.daemon.socket_dir / "weightd.sock")
        with Relay(folder / "handles.sock", node.daemon.socket_dir / "handles.sock") as handles:
            for number in range(3):
                node.load()
                node.assert_loads(1)
                client = Reader(folder)
                handles.at(number, lambda: node.kill(victim))
                client.send("attach", model=node.model)
                wait_until(handles.happened, "it happens")
                node.come_back()
                assert "error" not in client.answer()
                node.assert_bytes(client)
                node.assert_serves(folder)
                node.assert_loads(1 if victim == "both" else 0)
                client.end()
                node.assert_nothing_stays()
