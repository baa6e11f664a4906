"""Daemons that share one keeper, each with a socket folder of its own."""

import pathlib
import typing

from keepers import Keeper
from loglines import line_of, lines_of
from models import small_model
from processes import Daemon

Daemons = typing.Callable[..., Daemon]


def readopted(daemon: Daemon) -> list[str]:
    return [model["model"].rsplit("/", 1)[-1] for model in daemon.ctl_json("ls")["models"] if model.get("readopted")]


def test_each_takes_back_its_own(daemons: Daemons, keeper: Keeper, files: pathlib.Path) -> None:
    first, second = daemons(keeper.config), daemons(keeper.config)
    first.ctl("preload", str(small_model(files / "a.safetensors", seed=1)))
    second.ctl("preload", str(small_model(files / "b.safetensors", seed=2)))
    for daemon in (first, second):
        assert daemon.ctl_json("drain")["handed_over"]
    names = sorted(keeper.names())
    assert len(names) == 6
    for daemon, model in ((first, "a.safetensors"), (second, "b.safetensors"), (first, "a.safetensors")):
        daemon.kill()
        daemon.start()
        assert readopted(daemon) == [model]
        assert sorted(keeper.names()) == names
        assert daemon.status()["keeper"]["others"] == 3
        assert line_of(daemon, "keeper.others")["descriptors"] == 3
        assert not lines_of(daemon, "model.not_readopted")


def test_a_folder_is_the_same_by_whatever_link_it_is_reached(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    by_link = daemons(keeper.config, socket_dir=tmp_path / "link" / "run")
    by_link.ctl("preload", str(small_model(files / "a.safetensors")))
    assert by_link.ctl_json("drain")["handed_over"]
    by_link.kill()
    plainly = daemons(keeper.config, socket_dir=tmp_path / "real" / "run")
    assert readopted(plainly) == ["a.safetensors"]
    plainly.kill()
    by_link.start()
    assert readopted(by_link) == ["a.safetensors"]


def test_what_one_lets_go_of_is_gone_though_another_has_seen_it(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path
) -> None:
    first = daemons(keeper.config)
    path = small_model(files / "a.safetensors")
    first.ctl("preload", str(path))
    assert first.ctl_json("drain")["handed_over"]
    first.ctl("resume")
    second = daemons(keeper.config)
    line_of(second, "keeper.others")
    assert second.ctl_json("ls").get("models", []) == []
    first.ctl("evict", str(path))
    assert first.ctl_json("drain")["keeper"].get("stored", 0) == 0
    assert keeper.names() == []
    assert first.status()["host"].get("draining", 0) == 0
