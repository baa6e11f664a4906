"""What operators see of the keeper, and of what came of the models that an earlier daemon left."""

import os
import pathlib
import signal
import tempfile
import typing

from keepers import Keeper
from loglines import line_of
from models import small_model
from processes import PATIENCE, Daemon, wait_until

Daemons = typing.Callable[..., Daemon]


def metric(daemon: Daemon, name: str) -> float | None:
    """A series of its metrics; none if it isn't there."""
    for line in daemon.ctl("metrics").stdout.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[-1])
    return None


def descriptors(daemon: Daemon, state: str) -> float | None:
    return metric(daemon, f'weightd_keeper_descriptors{{state="{state}"}}')


def test_without_one_there_is_nothing_to_see(daemons: Daemons) -> None:
    daemon = daemons()
    assert metric(daemon, "weightd_keeper_up") is None
    assert "keeper" not in daemon.status() and "readoption" not in daemon.status()


def test_it_is_there_or_away(daemons: Daemons, keeper: Keeper, files: pathlib.Path) -> None:
    daemon = daemons(keeper.config)
    daemon.ctl("preload", str(small_model(files / "m.safetensors")))
    wait_until(lambda: (metric(daemon, "weightd_keeper_up"), descriptors(daemon, "stored")) == (1, 3), "it has all")
    assert f"keeper       {keeper.folder}: 3 descriptors\n" in daemon.ctl("status").stdout
    assert keeper.process is not None
    keeper.process.send_signal(signal.SIGSTOP)  # it hangs, and nobody notices before something is to be stored
    daemon.ctl("preload", str(small_model(files / "n.safetensors", seed=2)))
    assert descriptors(daemon, "pending") == 3
    line_of(daemon, "keeper.away")
    wait_until(lambda: (metric(daemon, "weightd_keeper_up"), descriptors(daemon, "stored")) == (0, 0), "it is away")
    assert descriptors(daemon, "pending") == 6
    keeper.process.send_signal(signal.SIGCONT)
    wait_until(lambda: (metric(daemon, "weightd_keeper_up"), descriptors(daemon, "stored")) == (1, 6), "it is back")
    assert descriptors(daemon, "pending") == 0


def test_models_that_do_not_come_back_are_told_and_counted(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path
) -> None:
    daemon = daemons(keeper.config)
    good, bad = small_model(files / "good.safetensors"), small_model(files / "bad.safetensors", seed=2)
    daemon.ctl("preload", "--pin", str(bad))
    wait_until(lambda: len(keeper.names()) == 3, "the model is kept")
    (weights,) = (name for name in keeper.names() if name.endswith(".weights"))
    daemon.ctl("preload", "--pin", str(good))
    wait_until(lambda: len(keeper.names()) == 6, "both are kept")
    daemon.kill()
    keeper.remove(weights)
    keeper.store("garbage", os.memfd_create("garbage"))
    daemon.start()
    assert metric(daemon, 'weightd_not_readopted_total{reason="verification_failed"}') == 1
    assert metric(daemon, "weightd_unknown_descriptors_total") == 1
    assert metric(daemon, 'weightd_not_readopted_total{reason="budget_exceeded"}') == 0
    assert metric(daemon, "weightd_pins_lost_total") == 1
    assert metric(daemon, "weightd_readopted_models") == 1
    said = daemon.ctl("status").stdout
    assert "readopted    1 model, 1 not, 1 pin lost\n" in said
    assert f"  not        file://{bad} (pinned): descriptors " in said and "its weights: not there" in said
    assert "  not        descriptors in the store that are of no model: 1: garbage\n" in said
    readoption = daemon.status()["readoption"]
    assert [failure.get("pinned", False) for failure in readoption["failures"]] == [True, False]
    assert line_of(daemon, "model.not_readopted")["hint"]
    assert "garbage" in line_of(daemon, "keeper.unknown")["error"]


def test_models_of_a_keeper_that_hung_at_the_start_come_back(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path
) -> None:
    daemon = daemons(f"cache: {{revalidate: never}}\n{keeper.config}")
    missed, loaded = small_model(files / "missed.safetensors"), small_model(files / "loaded.safetensors", seed=2)
    daemon.ctl("preload", "--pin", str(missed))
    daemon.ctl("preload", "--pin", str(loaded))
    wait_until(lambda: len(keeper.names()) == 6, "both are kept")
    daemon.kill()
    assert keeper.process is not None
    keeper.process.send_signal(signal.SIGSTOP)
    daemon.start()
    assert daemon.ctl_json("ls").get("models", []) == []
    daemon.ctl("preload", str(loaded))
    keeper.process.send_signal(signal.SIGCONT)
    assert line_of(daemon, "keeper.late")["descriptors"] == 6
    assert line_of(daemon, "model.readopted")["model"] == f"file://{missed}"
    assert line_of(daemon, "model.not_readopted")["model"] == f"file://{loaded}"
    said = daemon.ctl("status").stdout
    assert "readopted    1 model, 1 not\n" in said, said
    assert f"  not        file://{loaded}: " in said
    models = {model["model"]: model for model in daemon.ctl_json("ls")["models"]}
    assert models[f"file://{missed}"]["readopted"] and models[f"file://{missed}"]["pinned"]
    assert models[f"file://{loaded}"]["pinned"] and not models[f"file://{loaded}"].get("readopted")
    assert metric(daemon, "weightd_pins_lost_total") == 0
    wait_until(lambda: len(keeper.names()) == 6, "each is kept once")


def test_what_comes_back_late_is_served_only_if_it_is_what_the_config_says(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path
) -> None:
    path = small_model(files / "m.safetensors")
    first = daemons(keeper.config)
    first.ctl("preload", str(path))
    wait_until(lambda: len(keeper.names()) == 3, "it is kept")
    first.kill()
    assert keeper.process is not None
    keeper.process.send_signal(signal.SIGSTOP)
    listed = f"models: [{{name: m, uri: {path}, sha256: ['sha256:{'0' * 64}']}}]\n"
    second = daemons(f"cache: {{revalidate: never}}\n{listed}{keeper.config}", socket_dir=first.socket_dir)
    keeper.process.send_signal(signal.SIGCONT)
    assert line_of(second, "model.readopted")["model"] == f"file://{path}"
    assert line_of(second, "model.differs")["model"] == "m"
    refused = second.ctl("preload", "m", check=False)
    assert refused.returncode != 0 and "sha256" in refused.stderr, refused.stderr
    assert second.ctl_json("leases").get("leases", []) == []
    wait_until(lambda: keeper.names() == [], "it leaves the keeper")


def test_what_a_keeper_that_nobody_finds_holds_is_stored_anew(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path
) -> None:
    daemon = daemons(keeper.config)
    daemon.ctl("preload", str(small_model(files / "m.safetensors")))
    wait_until(lambda: len(keeper.names()) == 3, "the model is kept")
    with tempfile.TemporaryDirectory(prefix="weightd-") as aside:
        keeper.folder.rename(pathlib.Path(aside) / "keeper")
        away = line_of(daemon, "keeper.away")
        assert "its socket was removed" in away["error"] and (away["models"], away["descriptors"]) == (1, 3)
        assert "(keeper.away in the daemon's log says why)" in daemon.ctl("status").stdout
        lost = keeper.process
        assert lost is not None
        with keeper:
            assert line_of(daemon, "keeper.back")["models"] == 1
            wait_until(lambda: len(keeper.names()) == 3, "the model is kept again")
            assert lost.wait(PATIENCE) == 69
            daemon.kill()
            daemon.start()
            assert daemon.status()["readoption"]["readopted"] == 1
        keeper.process = None
        keeper.__enter__()
