"""Many nodes: one list for all of them, and one reading of the store for all of them."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import typing

import namespaces
import pytest
import weightd
from admin import Admin
from models import even_model, small_model
from processes import PATIENCE, ROOT, Daemon, wait_until
from shelves import same

MIB = 1 << 20
NODES = 8
MODEL_MIB = 96


@contextlib.contextmanager
def fleet(nodes: list[Daemon]) -> typing.Iterator[list[Admin]]:
    """Starts the daemons at the same time, and ends them."""
    with contextlib.ExitStack() as ends:
        for node in nodes:
            ends.callback(node.end)
            node.start(wait=False)
        for node in nodes:
            wait_until(node.serves, "a node serves", timeout=6 * PATIENCE)
        yield [ends.enter_context(Admin(node.socket_dir)) for node in nodes]


def folders(tmp_path: pathlib.Path, count: int) -> list[pathlib.Path]:
    made = [tmp_path / f"node{i}" for i in range(count)]
    for folder in made:
        folder.mkdir()
    return made


@pytest.mark.plain_only
def test_sixteen_nodes_keep_a_list_with_one_bad_entry(tmp_path: pathlib.Path, files: pathlib.Path) -> None:
    paths = {f"m{i}": small_model(files / f"m{i}.safetensors", seed=i + 1) for i in range(10)}
    config = tmp_path / "weightd.yaml"

    def write(list_of_models: dict[str, pathlib.Path]) -> None:
        entries = [f"  - {{name: {name}, uri: {path}, preload: true}}" for name, path in list_of_models.items()]
        (tmp_path / "new.yaml").write_text("\n".join(["host: {budget: 64MiB}", "models:", *entries]) + "\n")
        (tmp_path / "new.yaml").rename(config)

    write(paths | {"m7": files / "nowhere.safetensors"})
    nodes = [Daemon(folder, arguments=("--config", str(config))) for folder in folders(tmp_path, 16)]
    with fleet(nodes) as admins:
        bad = "RETRYING"
        expected = dict.fromkeys(paths, "READY") | {"m7": bad}
        for admin in admins:
            wait_until(lambda admin=admin: admin.states() == expected, "nine of ten are ready", timeout=6 * PATIENCE)
            model = wait_until(
                lambda admin=admin: (one := admin.configured()["m7"]).HasField("next_try_at") and one, "it is retried"
            )
            assert model.failures >= 1
            assert "nowhere.safetensors" in model.last_error
        write(paths)
        for admin in admins:
            wait_until(
                lambda admin=admin: set(admin.states().values()) == {"READY"}, "the list was mended", 6 * PATIENCE
            )
        with weightd.attach("m7", socket_dir=nodes[-1].socket_dir, framework="np") as model:
            assert same(model, paths["m7"])


class WebServer:
    """nginx on one machine of the network."""

    def __init__(self, folder: pathlib.Path, before: tuple[str, ...], address: str, http: str) -> None:
        folder.mkdir()
        self.log = folder / "access.log"
        self._before = before
        self._address = address
        user = "user root;" if os.getuid() == 0 else ""
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(f"""
{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{ log_format bytes '{{"sent": $body_bytes_sent, "request": "$request", "status": $status}}';
access_log {self.log} bytes; sendfile on; keepalive_requests 1000000;
{temporary}
{http}
}}
""")
        nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or "nginx"
        self._process = subprocess.Popen(
            [*before, nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
        )

    def sent(self) -> list[dict[str, typing.Any]]:
        """What it has answered, and with how many bytes of bodies."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


def listens(before: tuple[str, ...], address: str, port: int) -> bool:
    """Whether a machine takes connections there."""
    return (
        subprocess.run(
            [*before, "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"], capture_output=True, timeout=30, check=False
        ).returncode
        == 0
    )


def cache_config(folder: pathlib.Path, origin: str) -> str:
    """deploy/examples/nginx-cache.conf for this origin, with a cache in that folder."""
    text = (ROOT / "deploy/examples/nginx-cache.conf").read_text()
    for written, here in (
        ("/var/cache/nginx/weights", str(folder / "cache")),
        ("max_size=500g", "max_size=2g"),
        ("store.example", origin),
    ):
        assert written in text, written
        text = text.replace(written, here)
    return text


class Between:
    """A cache between a client and its store, which answers with the path it is asked for; and another server."""

    def __init__(self, tmp_path: pathlib.Path, ends: contextlib.ExitStack) -> None:
        network = ends.enter_context(namespaces.Network())
        self.addresses = {machine: network.add(machine) for machine in ("store", "other", "cache", "client")}
        answer = "default_type text/plain; return 200 $request_uri;"
        cache = cache_config(tmp_path / "cache", self.addresses["store"])
        servers = {
            "store": f"server {{ listen 80; {answer} }} server {{ listen 9000; {answer} }}",
            "other": f"server {{ listen 80; {answer} }}",
            "cache": cache,
        }
        self.logs: dict[str, WebServer] = {}
        for machine, config in servers.items():
            server = WebServer(tmp_path / machine, network.on(machine), self.addresses[machine], config)
            ends.callback(server.end)
            self.logs[machine] = server
        self._client = network.on("client")
        for machine, port in (("store", 80), ("store", 9000), ("other", 80), ("cache", 8080), ("cache", 3128)):
            wait_until(
                lambda at=self.addresses[machine], port=port: listens(self._client, at, port), f"{machine} listens"
            )

    def get(self, uri: str, *arguments: str) -> tuple[int, str]:
        """The status and body of what curl gets, from the URI as it is written."""
        done = subprocess.run(
            [*self._client, "curl", "-sS", "--path-as-is", "-w", "\n%{http_code}", *arguments, uri],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body


@pytest.fixture
def between(tmp_path: pathlib.Path) -> typing.Iterator[Between]:
    if reason := namespaces.why_not():
        pytest.skip(reason)
    with contextlib.ExitStack() as ends:
        yield Between(tmp_path, ends)


@pytest.mark.plain_only
def test_the_proxy_reaches_the_stores_of_its_list_only(between: Between) -> None:
    store, other = between.addresses["store"], between.addresses["other"]
    through = ("--proxy", f"http://{between.addresses['cache']}:3128")
    assert between.get(f"http://{store}/llama", *through) == (http.client.OK, "/llama")
    for uri, host in (
        (f"http://{other}/llama", other),
        (f"http://{store}/llama", other),
        (f"http://{store}:9000/llama", f"{store}:9000"),
        (f"http://{store}/llama", f"{store}@{other}"),
        (f"http://{store}/llama", ""),
    ):
        status, _ = between.get(uri, *through, "--header", f"Host: {host}")
        assert status in (http.client.FORBIDDEN, http.client.BAD_REQUEST), (uri, host)
    # Two hosts in one request: the one that is on the list is asked, and what it says is kept as its own.
    between.get(f"http://{other}/llama", *through, "--header", f"Host: {store}")
    assert between.logs["other"].sent() == []
    assert len(between.logs["store"].sent()) == 1


@pytest.mark.plain_only
@pytest.mark.parametrize("way", ["by name", "as a proxy"])
def test_paths_that_normalise_alike_are_objects_of_their_own(way: str, between: Between) -> None:
    cache = between.addresses["cache"]
    place, through = f"http://{cache}:8080", ()
    if way == "as a proxy":
        place, through = f"http://{between.addresses['store']}", ("--proxy", f"http://{cache}:3128")
    paths = ["/a/b", "/a%2Fb", "/a//b", "/a/./b", "/a/b?c", "/a/b%3Fc"]
    for path in 2 * paths:
        assert between.get(place + path, *through) == (http.client.OK, path)
    assert len(between.logs["store"].sent()) == len(paths)


@pytest.mark.plain_only
@pytest.mark.parametrize("way", ["by name", "as a proxy"])
def test_eight_nodes_read_the_store_once(way: str, tmp_path: pathlib.Path, files: pathlib.Path) -> None:
    if reason := namespaces.why_not():
        pytest.skip(reason)
    path = even_model(files / "llama" / "model.safetensors", MODEL_MIB * MIB, 16)
    with contextlib.ExitStack() as ends:
        network = ends.enter_context(namespaces.Network())
        origin, cache = network.add("origin"), network.add("cache")
        for i in range(NODES):
            network.add(f"node{i}")
        store = WebServer(
            tmp_path / "origin", network.on("origin"), origin, f"server {{ listen {origin}:80; root {files}; }}"
        )
        ends.callback(store.end)
        between = WebServer(tmp_path / "cache", network.on("cache"), cache, cache_config(tmp_path / "cache", origin))
        ends.callback(between.end)
        wait_until(lambda: listens(network.on("node0"), origin, 80), "the store listens")
        wait_until(lambda: listens(network.on("node0"), cache, 3128), "the cache listens")
        place, environment = f"http://{cache}:8080", ()
        if way == "as a proxy":
            place, environment = f"http://{origin}", ("env", f"http_proxy=http://{cache}:3128")
        config = f"models:\n  - {{name: llama, uri: {place}/llama/model.safetensors, preload: true}}\n"
        nodes = [
            Daemon(folder, config, before=(*network.on(f"node{i}"), *environment))
            for i, folder in enumerate(folders(tmp_path, NODES))
        ]
        admins = ends.enter_context(fleet(nodes))
        for admin in admins:
            wait_until(lambda admin=admin: admin.states() == {"llama": "READY"}, "it is loaded", timeout=120)
        for node in nodes:
            with weightd.attach("llama", socket_dir=node.socket_dir, framework="np") as model:
                assert same(model, path)
        answers = store.sent()
        ratio = sum(answer["sent"] for answer in answers) / path.stat().st_size
        print(f"\n{NODES} nodes, {way}: the store sent {ratio:.3f} times the model, in {len(answers)} answers")
        assert {answer["status"] for answer in answers} == {http.client.PARTIAL_CONTENT}
        assert 1.0 <= ratio <= 1.1, answers
