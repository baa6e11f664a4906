"""What a listener denies stays denied, whatever leads there: folders, shard indexes, redirects, others' loads."""

import concurrent.futures
import http.server
import json
import pathlib
import threading
import typing

import pytest
import safetensors
from models import small_model, write_model
from outcomes import NO, OK, outcome, resident
from processes import Daemon
from weightd.v1 import weights_pb2
from wire import RawSession

Daemons = typing.Callable[..., Daemon]


class Web:
    """A web server of files, which sends a path below /to/ to that below /, /via/ to /to/."""

    def __init__(self, files: pathlib.Path) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = self.path.split("/", 2)
                path = files / self.path[1:]
                moved = {"to": "/", "via": "/to/"}.get(parts[1])
                data = path.read_bytes() if path.is_file() else b""
                first, last = 0, len(data) - 1
                if self.headers["Range"]:
                    first, last = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
                self.send_response(302 if moved else 206 if data else 404)
                if moved:
                    self.send_header("Location", moved + parts[2])
                else:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
                    self.send_header("ETag", f'"{hash(data)}"')
                body = b"" if moved else data[first : last + 1]
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def end(self) -> None:
        """Answers no more."""
        self._server.shutdown()
        self._server.server_close()


# By what each model has that is denied: a file of its folder, by URI and by alias; a shard; where a redirect leads, at
# once and on the second hop. The last two have nothing.
THROUGH = {
    "file://{files}/mix/": NO,
    "file://{files}/named/": NO,
    "file://{files}/root/": NO,
    "{url}/to/root/private/s.safetensors": NO,
    "{url}/via/root/private/s.safetensors": NO,
    "{url}/to/mix/open.safetensors": OK,
    "file://{files}/plain/": OK,
}


@pytest.fixture
def through(
    daemons: Daemons, files: pathlib.Path, reachable: pathlib.Path
) -> typing.Iterator[tuple[Daemon, pathlib.Path, dict[str, str]]]:
    """A daemon, the folder of a listener that denies, and the models of THROUGH."""
    for i, name in enumerate(("mix/secret", "mix/open", "named/a", "named/b", "plain/a", "plain/b")):
        write_model(files / f"{name}.safetensors", {f"layer.{i}.weight": ("F32", [64, 64])}, seed=i + 1)
    (files / "root" / "private").mkdir(parents=True)
    small_model(files / "root" / "private" / "s.safetensors", seed=9)
    with safetensors.safe_open(files / "root" / "private" / "s.safetensors", "np") as shard:
        names = list(shard.keys())
    (files / "root" / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "private/s.safetensors")})
    )
    web = Web(files)
    daemon = daemons(
        f"listeners:\n  - {{name: own, directory: {reachable}/own}}\n"
        f"  - name: deny\n    directory: {reachable}/deny\n    mode: 0755\n    access:\n"
        f"      attach: ['**']\n      load: ['**']\n"
        f"      deny: ['{files}/mix/secret.safetensors', hid, '{files}/root/private/**', '{web.url}/root/private/**']\n"
        f"models:\n  - {{name: hid, uri: 'file://{files}/named/b.safetensors'}}\n"
        f"sources:\n  file:\n    roots: ['{files}']\n  http:\n    allowed_networks: ['127.0.0.0/8']\n"
    )
    yield daemon, reachable, {text.format(files=files, url=web.url): wanted for text, wanted in THROUGH.items()}
    web.end()


def test_deny_holds_for_what_is_reached_through_another_model(
    through: tuple[Daemon, pathlib.Path, dict[str, str]],
) -> None:
    daemon, folder, models = through
    assert {model: outcome(folder / "deny", model) for model in models} == models
    # Nor does it decide for others, whose loads it rides on no more than they on its.
    for model in models:
        assert outcome(folder / "own", model) == OK, model
    assert len(resident(daemon)) == len(models)
    assert {model: outcome(folder / "deny", model) for model in models} == models
    session = RawSession(folder / "deny")
    listed = session.call("ListModels", weights_pb2.ListModelsRequest(), weights_pb2.ListModelsResponse)
    session.close()
    assert {model.model for model in listed.models} == {model for model, wanted in models.items() if wanted == OK}


def test_deny_holds_for_who_waits_for_anothers_load(
    through: tuple[Daemon, pathlib.Path, dict[str, str]],
) -> None:
    _, folder, models = through
    for model, wanted in models.items():
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = [
                pool.submit(outcome, folder / listener, model)
                for listener in ("own", "deny", "own", "deny")
                for _ in "ab"
            ]
        assert [one.result() for one in found] == [OK, OK, wanted, wanted] * 2, model
