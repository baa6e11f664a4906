"""What lies beside a model's weights comes with them, without network or credentials, and nobody can change it."""

import contextlib
import os
import pathlib
import typing

import pytest
import weightd
from attacks import attack
from models import sharded_model, small_model
from processes import Daemon, Nginx, wait_until
from shelves import Shelf
from users import NOBODY, as_user
from wire import RawSession, close_all

Daemons = typing.Callable[..., Daemon]

CONTENT = {
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "added_tokens.json": b"",
    "config.json": b'{"model_type": "bert"}',
    "modules.json": b"[]",
    "tokenizer.json": bytes(range(256)) * 5000,
    "vocab.txt": b"a\nb\n",
}


def write(folder: pathlib.Path, content: dict[str, bytes] = CONTENT) -> pathlib.Path:
    """Small files, and some that nobody asks for."""
    others = {"README.md": b"read me", ".gitattributes": b"", "notes.json": b"{}", "1_Pooling/notes.json": b"{}"}
    for name, text in (content | others).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    return folder


@pytest.fixture
def folder(files: pathlib.Path) -> pathlib.Path:
    """A model with small files."""
    small_model(files / "m" / "model.safetensors")
    return write(files / "m")


def attach(daemon: Daemon, model: object) -> weightd.Model:
    return weightd.attach(str(model), socket_dir=daemon.socket_dir, timeout=60, framework="np")


def refusal(daemon: Daemon, model: object, socket_dir: pathlib.Path | None = None) -> weightd.Error:
    with pytest.raises(weightd.Error) as caught:
        weightd.attach(str(model), socket_dir=socket_dir or daemon.socket_dir, timeout=60)
    return caught.value


def host_bytes(daemon: Daemon, model: object) -> int:
    return int(daemon.ctl_json("show", str(model))["model"]["host_bytes"])


def test_a_folder_has_them_and_a_file_has_none(daemon: Daemon, folder: pathlib.Path) -> None:
    with attach(daemon, folder) as model:
        assert dict(model.files) == CONTENT
        assert list(model.files) == sorted(CONTENT)
        assert model.files.left_out == {}
    with attach(daemon, folder / "model.safetensors") as model:
        assert dict(model.files) == {}
        with pytest.raises(weightd.ModelFileNotFoundError, match="attach the folder"):
            model.files["config.json"]
        with pytest.raises(weightd.ModelFileNotFoundError):
            model.directory()


def test_every_source_gives_the_same(shelf: Shelf, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "local"
    sharded_model(folder, 3)
    write(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            shelf.put(path, f"llama/{path.relative_to(folder)}")
    with shelf.attach(shelf.uri("llama/")) as model:
        assert dict(model.files) == CONTENT


def test_nobody_can_change_them(daemon: Daemon, folder: pathlib.Path) -> None:
    session = RawSession(daemon.socket_dir)
    fds = session.claim(session.acquire(str(folder)))
    assert len(fds) == 3
    before = [os.pread(fd, 1 << 22, 0) for fd in fds]
    for uid in (os.getuid(), NOBODY):
        assert as_user(uid, lambda: attack(fds)) == []
    assert [os.pread(fd, 1 << 22, 0) for fd in fds] == before
    close_all(fds)
    session.close()


def test_they_are_charged_and_given_back(daemon: Daemon, folder: pathlib.Path) -> None:
    with attach(daemon, folder), attach(daemon, folder / "model.safetensors"):
        beside = sum(map(len, CONTENT.values()))
        more = host_bytes(daemon, folder) - host_bytes(daemon, folder / "model.safetensors")
        assert beside <= more <= beside + 2 * 4096
    daemon.ctl("evict", str(folder))
    daemon.ctl("evict", str(folder / "model.safetensors"))
    wait_until(lambda: int(daemon.status()["host"].get("resident_bytes", 0)) == 0, "all memory is back")


def test_what_is_too_large_is_left_out_and_the_reason_told(daemon: Daemon, folder: pathlib.Path) -> None:
    with (folder / "tokenizer.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with attach(daemon, folder) as model:
        assert set(model.files) == set(CONTENT) - {"tokenizer.json"}
        assert set(model.files.left_out) == {"tokenizer.json"}
        with pytest.raises(KeyError, match="doesn't keep 'tokenizer.json': it has 67108865 bytes"):
            model.files["tokenizer.json"]
        assert not (model.directory() / "tokenizer.json").exists()


@pytest.mark.parametrize("status", [401, 403])
def test_what_a_server_denies_is_left_out_and_the_reason_told(
    daemon: Daemon, files: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path, status: int
) -> None:
    with contextlib.ExitStack() as ending:
        web = Nginx(tmp_path / "closed", files, f"location = /m/config.json {{ return {status}; }}")
        ending.callback(web.end)
        model = ending.enter_context(attach(daemon, web.url("m/")))
        assert set(model.files) == set(CONTENT) - {"config.json"}
        assert set(model.files.left_out) == {"config.json"}
        with pytest.raises(weightd.ModelFileNotFoundError, match="weightd is denied it"):
            model.files["config.json"]


def test_a_changed_one_is_a_new_revision(daemons: Daemons, folder: pathlib.Path) -> None:
    daemon = daemons("cache:\n  revalidate: always\n")
    old = attach(daemon, folder)
    (folder / "config.json").write_bytes(b"{}")

    def changed() -> bool:
        with attach(daemon, folder) as new:
            return new.revision != old.revision and new.files["config.json"] == b"{}"

    wait_until(changed, "the new revision is granted")
    assert old.files["config.json"] == CONTENT["config.json"]
    old.close()


def test_a_web_server_is_asked_again_only_for_those_it_has(
    daemons: Daemons, folder: pathlib.Path, web: Nginx
) -> None:
    daemon = daemons("cache:\n  revalidate: always\n")
    attach(daemon, web.url("m/")).close()
    assert len(web.requests("m/merges.txt")) == 1
    for path in ("m/config.json", "m/vocab.txt"):
        asked = len(web.requests(path))

        def asked_again(path: str = path, asked: int = asked) -> bool:
            # Each time: while one check goes on, an attach starts no other.
            attach(daemon, web.url("m/")).close()
            return len(web.requests(path)) > asked

        wait_until(asked_again, "the source was asked again")
    assert len(web.requests("m/merges.txt")) == 1


def test_a_link_that_leads_out_of_the_roots_is_left_out(
    daemons: Daemons, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (folder / "vocab.txt").unlink()
    (folder / "vocab.txt").symlink_to(secret)
    (folder / "merges.txt").symlink_to("vocab.json")
    os.mkfifo(folder / "vocab.json")
    shared = tmp_path / "shared"
    daemon = daemons(
        f"""
listeners:
  - {{name: own, directory: {tmp_path}/own}}
  - name: shared
    directory: {shared}
    mode: 0755
    access: {{attach: ["**"], load: ["file://{folder}/**"]}}
sources:
  file: {{roots: ["{folder}"]}}
""",
        socket_dir=tmp_path / "own",
    )
    with weightd.attach(f"{folder}/", socket_dir=shared, timeout=60, framework="np") as model:
        assert set(model.files) == set(CONTENT) - {"vocab.txt"}
        assert list(model.files.left_out) == ["vocab.txt"]
    assert daemon.serves()


@pytest.mark.parametrize("resident", [False, True])
def test_a_denied_one_denies_the_model(
    daemons: Daemons, folder: pathlib.Path, tmp_path: pathlib.Path, resident: bool
) -> None:
    shared = tmp_path / "shared"
    daemon = daemons(
        f"""
listeners:
  - {{name: own, directory: {tmp_path}/own}}
  - name: shared
    directory: {shared}
    mode: 0755
    access: {{attach: ["**"], load: ["file://{folder}/**"], deny: ["file://{folder}/config.json"]}}
sources:
  file: {{roots: ["{folder}"]}}
""",
        socket_dir=tmp_path / "own",
    )
    if resident:
        daemon.ctl("preload", f"{folder}/")
    assert refusal(daemon, f"{folder}/", shared).reason == "NOT_ALLOWED"


def test_the_directory_lives_as_long_as_the_model(daemon: Daemon, folder: pathlib.Path) -> None:
    model = attach(daemon, folder)
    directory = model.directory()
    assert model.directory() == directory
    assert directory.stat().st_mode & 0o777 == 0o700
    found = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert found == CONTENT
    kept = model.files
    model.close()
    assert not directory.exists()
    assert kept["config.json"] == CONTENT["config.json"]
    for use in (model.directory, lambda: model.files):
        with pytest.raises(weightd.ClosedError):
            use()
    dropped = attach(daemon, folder)
    directory = dropped.directory()
    del dropped
    assert not directory.exists()


def test_a_forked_child_removes_only_its_own(daemon: Daemon, folder: pathlib.Path) -> None:
    with attach(daemon, folder) as model:
        directory = model.directory()
        own, given = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                mine = model.directory()
                text = (mine / "config.json").read_text()
                model.close()
                os.write(given, f"{mine} {mine.exists()} {text}".encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        mine, exists, text = os.read(own, 4096).decode().split(" ", 2)
        assert (pathlib.Path(mine) != directory, exists, text) == (True, "False", CONTENT["config.json"].decode())
        assert (directory / "config.json").exists()
        os.close(own)
        os.close(given)
