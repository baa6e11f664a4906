"""A next daemon whose config differs: what it takes back of what the one before left, and what it doesn't."""

import pathlib
import typing

from keepers import Keeper
from loglines import line_of, lines_of
from models import even_model, small_model
from processes import Daemon, Reader, wait_until

Daemons = typing.Callable[..., Daemon]
Readers = typing.Callable[[Daemon], Reader]
MIB = 1 << 20


def kill(daemon: Daemon) -> None:
    """SIGKILL, once the keeper has what there is."""
    assert daemon.ctl_json("drain")["handed_over"]
    daemon.kill()


def readopted(daemon: Daemon) -> list[str]:
    models = daemon.ctl_json("ls").get("models", [])
    return [model["model"].rsplit("/", 1)[-1] for model in models if model.get("readopted")]


def test_what_the_config_pins_goes_first_where_not_all_fits(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path
) -> None:
    pinned, newer = (even_model(files / f"{i}.safetensors", 40 * MIB, 4, seed=i) for i in (1, 2))
    pins = f"models: [{{name: pinned, uri: {pinned}, preload: true, pin: true}}]\n"
    first = daemons(f"host: {{budget: 100MiB}}\n{pins}{keeper.config}")
    line_of(first, "load.finished")
    first.ctl("preload", str(newer))
    kill(first)
    second = daemons(f"host: {{budget: 60MiB}}\n{pins}{keeper.config}", socket_dir=first.socket_dir)
    assert readopted(second) == ["1.safetensors"]
    assert line_of(second, "model.not_readopted")["model"] == f"file://{newer}"
    assert not lines_of(second, "load.started")


def test_memory_that_a_client_maps_counts_though_the_budget_is_too_small(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    first = daemons(f"host: {{budget: 100MiB}}\n{keeper.config}")
    mapped = even_model(files / "mapped.safetensors", 40 * MIB, 4)
    client = readers(first)
    client.ask("attach", model=str(mapped))
    digest = client.ask("digest")
    kill(first)
    second = daemons(f"host: {{budget: 20MiB}}\n{keeper.config}", socket_dir=first.socket_dir)
    assert "clients still map it" in line_of(second, "model.not_readopted", model=f"file://{mapped}")["error"]
    wait_until(lambda: int(second.status()["host"].get("draining", 0)) > 40 * MIB, "it drains")
    assert int(second.status()["listeners"][0]["draining_bytes"]) > 40 * MIB
    said = second.ctl("status").stdout
    assert f"  not        file://{mapped}: " in said, said
    refused = second.ctl("preload", str(small_model(files / "small.safetensors")), check=False)
    assert refused.returncode != 0 and "draining, and evicting the rest" in refused.stderr, refused.stderr
    assert client.ask("digest") == digest
    client.end()
    wait_until(lambda: int(second.status()["host"].get("draining", 0)) == 0, "it is free")
    wait_until(lambda: not keeper.names(), "the keeper has let go of it, too")
    second.ctl("preload", str(files / "small.safetensors"))


def test_what_was_not_verified_is_loaded_again_where_it_is_to_be(
    daemons: Daemons, keeper: Keeper, files: pathlib.Path
) -> None:
    first = daemons(f"verify: never\n{keeper.config}")
    plain = small_model(files / "m.safetensors")
    first.ctl("convert", str(plain), str(files / "m.tensors"))
    for name in ("m.tensors", "m.safetensors"):
        first.ctl("preload", str(files / name))
    kill(first)
    second = daemons(f"verify: full\n{keeper.config}", socket_dir=first.socket_dir)
    assert readopted(second) == ["m.safetensors"]
    assert "(verify)" in line_of(second, "model.not_readopted")["error"]
    second.ctl("preload", str(files / "m.tensors"))
    kill(second)
    third = daemons(keeper.config, socket_dir=first.socket_dir)
    assert sorted(readopted(third)) == ["m.safetensors", "m.tensors"]
