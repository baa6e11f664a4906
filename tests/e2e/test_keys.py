"""Keys that come with `weightctl preload`, over the admin socket."""

import base64
import json
import pathlib
import subprocess
import typing

import pytest
import weightd
from processes import Daemon, binary
from test_tensorizer import KEY, NEWEST, PASSWORD, attach, found

Daemons = typing.Callable[..., Daemon]
Corpora = typing.Callable[[str], pathlib.Path]

VERBOSE = "log: {level: debug}\n"


@pytest.fixture
def places(tmp_path: pathlib.Path) -> dict[str, str]:
    """Values of --key, by what they open."""
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "other").write_bytes(bytes(reversed(KEY)))
    return {
        "key.tensors": f"key-file={tmp_path}/key",
        "password.tensors": f"password-file={tmp_path}/password",
        "nothing": f"key-file={tmp_path}/other",
    }


def preload(daemon: Daemon, path: pathlib.Path, *arguments: str, code: int = 0) -> str:
    """What it prints."""
    done = daemon.ctl("preload", str(path), *arguments, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def reason(daemon: Daemon, path: pathlib.Path) -> str:
    """Why a client doesn't get the model."""
    with pytest.raises(weightd.Error) as caught:
        attach(daemon, str(path))
    return f"{caught.value.reason}: {caught.value.hint}"


def shows_a_secret(text: bytes) -> bool:
    words = (KEY, KEY.hex().encode(), base64.b64encode(KEY), bytes(reversed(KEY)), PASSWORD.encode())
    return any(word in text for word in words)


def test_a_key_or_a_password_opens_a_model_and_is_nowhere_to_be_seen(
    daemons: Daemons, corpora: Corpora, places: dict[str, str], tmp_path: pathlib.Path
) -> None:
    daemon = daemons(VERBOSE)
    folder = corpora(NEWEST)
    expected = json.loads((folder / "expected.json").read_text())
    with (tmp_path / "events").open("wb") as events:
        watch = subprocess.Popen(
            [binary("client/cli/weightctl"), "--socket-dir", str(daemon.socket_dir), "watch"], stdout=events
        )
        said = ""
        for name in ("key.tensors", "password.tensors"):
            said += preload(daemon, folder / name, "--key", places["nothing"], code=77)
            said += preload(daemon, folder / name, "--key", places[name], "-o", "json")
            said += daemon.ctl("show", str(folder / name)).stdout
            with attach(daemon, str(folder / name)) as model:
                assert found(model) == expected[name]
                assert model.verified_tensors.unverified == 0
        said += daemon.ctl("ls", "-o", "json").stdout
        watch.terminate()
        watch.wait()
    daemon.stop()
    assert "key.tensors" in said and "key.tensors" in daemon.log()
    for text in (said.encode(), daemon.log_path.read_bytes(), (tmp_path / "events").read_bytes()):
        assert not shows_a_secret(text)


def test_it_is_for_one_load(daemon: Daemon, corpora: Corpora, places: dict[str, str]) -> None:
    path = corpora(NEWEST) / "key.tensors"
    assert "KEY_MISSING" in preload(daemon, path, "-o", "json", code=77)
    preload(daemon, path, "--key", places["key.tensors"])
    preload(daemon, path)  # resident: needs none
    preload(daemon, path, "--key", places["nothing"])  # and looks at none
    daemon.ctl("evict", str(path))
    told = reason(daemon, path)
    assert told.startswith("KEY_MISSING") and "weightctl preload --key" in told
    preload(daemon, path, "--key", places["key.tensors"], "--pin")
    attach(daemon, str(path)).close()


def test_it_goes_before_the_configs(
    daemons: Daemons, corpora: Corpora, places: dict[str, str], tmp_path: pathlib.Path
) -> None:
    daemon = daemons(f"""{VERBOSE}
keys:
  - {{models: ["**/key.tensors"], key_file: {tmp_path}/other}}
  - {{models: ["**/password.tensors"], key_file: {tmp_path}/none}}
""")
    folder = corpora(NEWEST)
    for name, why in (("key.tensors", "KEY_REFUSED"), ("password.tensors", "KEY_MISSING")):
        assert reason(daemon, folder / name).startswith(why)
        preload(daemon, folder / name, "--key", places[name])
        attach(daemon, str(folder / name)).close()
    told = preload(daemon, folder / "plain.tensors", "--key", places["key.tensors"], code=77)
    assert "none of its files is encrypted; preload it without a key" in told
    preload(daemon, folder / "plain.tensors")


def test_clients_cannot_bring_one(
    daemons: Daemons, corpora: Corpora, places: dict[str, str], tmp_path: pathlib.Path
) -> None:
    daemon = daemons(VERBOSE)
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "admin.sock").symlink_to(daemon.socket_dir / "weightd.sock")
    path = corpora(NEWEST) / "key.tensors"
    done = subprocess.run(
        [binary("client/cli/weightctl"), "--socket-dir", str(folder), "preload", str(path)]
        + ["--key", places["key.tensors"]],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 77, done.stderr
    assert "resident" not in daemon.ctl("ls").stdout
    assert not shows_a_secret(done.stdout + done.stderr + daemon.log_path.read_bytes())


def test_what_is_no_key_is_not_sent_and_not_shown(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    for given, code in (("hunter2", 64), ("key-env=NOWHERE", 77), (f"key-file={tmp_path}/none", 77)):
        told = preload(daemon, tmp_path / "m.tensors", "--key", given, code=code)
        assert "hunter2" not in told
    assert "LOAD" not in daemon.log()
