"""Cold loads from nginx of the same bytes in another shape: thousands of small tensors, or many shards.

.venv/bin/python tests/bench/shapes.py [--rounds 15]
"""

import argparse
import functools
import json
import pathlib
import sys
import tempfile

sys.path += [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("e2e", "servers", "bench")]

import measure  # noqa: E402
from admin import AdminCalls, cold_load  # noqa: E402
from models import even_model, write_model  # noqa: E402
from processes import Daemon  # noqa: E402
from stage import NginxStage  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
SMALL_TENSORS = 4000  # of 64 KiB
SHARDS = 50  # of 20 MiB
LOADS = 4  # in a row are one sample: a load takes a tenth of a second


def even_shards(folder: pathlib.Path, nbytes: int, shards: int, tensors: int) -> None:
    """A folder of `shards` files of equal size, `tensors` tensors in each, with the index that names them."""
    elements = nbytes // shards // tensors // 4
    weight_map = {}
    for i in range(shards):
        names = [f"layer.{i}.{k}.weight" for k in range(tensors)]
        write_model(folder / f"{i:05}.safetensors", {name: ("F32", [elements]) for name in names}, seed=i)
        weight_map |= dict.fromkeys(names, f"{i:05}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    options = parser.parse_args()
    small, sharded = SMALL_TENSORS * 64 * KIB, SHARDS * 20 * MIB
    with tempfile.TemporaryDirectory() as scratch, measure.HugePages("advise"):
        folder = pathlib.Path(scratch)
        files = folder / "files"
        even_model(files / "few.safetensors", small, 4)
        even_model(files / "many.safetensors", small, SMALL_TENSORS)
        even_model(files / "one.safetensors", sharded, 6 * SHARDS)
        even_shards(files / "shards", sharded, SHARDS, 6)
        daemon = Daemon(folder, f"host:\n  budget: {sharded + 512 * MIB}\n").start()
        admin = AdminCalls(daemon.socket_dir)

        def loads(uri: str) -> measure.Sample:
            sample = measure.Sample(0, 0)
            for _ in range(LOADS):
                load = cold_load(daemon, admin, uri)
                sample.wall += load.wall
                sample.cpu += load.cpu
            return sample

        with NginxStage(folder, files) as stage:
            names = ("few.safetensors", "many.safetensors", "one.safetensors", "shards/")
            ballast = measure.Ballast(sharded + 256 * MIB)
            samples = measure.rounds(
                {name: ballast.freed_for(functools.partial(loads, stage.uri(name))) for name in names},
                options.rounds,
                ballast.hold,
            )
        daemon.end()
    reached = []
    for what, shaped, plain, size in (
        (f"{SMALL_TENSORS} tensors of 64 KiB against 4", "many.safetensors", "few.safetensors", small),
        (f"{SHARDS} shards against one file", "shards/", "one.safetensors", sharded),
    ):
        pair = {name: samples[name] for name in (plain, shaped)}
        measure.table(pair, LOADS * size)
        walls = {name: [sample.wall for sample in runs] for name, runs in pair.items()}
        reached.append(measure.verdict(what, 1.1, walls[shaped], walls[plain], at_least=False))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
