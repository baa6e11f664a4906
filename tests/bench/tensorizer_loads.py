"""Loads of tensorizer files from nginx: what verifying and decrypting cost, and beside tensorizer itself.

.venv/bin/python tests/bench/tensorizer_loads.py [--mib 2048] [--rounds 15]

The same tensors throughout, each load in a process of its own (contenders.py). Two ceilings are shown for each check:
all cores going over as many bytes in memory, and the same while a curl fetches them, which is what a load has to do.
"""

import argparse
import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path += [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("e2e", "servers", "bench")]

import measure  # noqa: E402
from compare import MIB, MODEL, TENSORS, Bench, Node, run_way  # noqa: E402
from processes import ROOT, binary  # noqa: E402
from stage import NginxStage  # noqa: E402

ENCRYPTED = "encrypted.tensors"
POLICIES = ("never", "fast", "full")
CONNECTIONS = 2


def config(folder: pathlib.Path, stage: NginxStage) -> str:
    """One name of the file for each policy, and the key of the encrypted one."""
    models = "".join(
        f"  - {{name: {policy}, uri: '{stage.uri(f'{policy}.tensors')}', verify: {policy}}}\n" for policy in POLICIES
    )
    return f"models:\n{models}keys:\n  - {{models: ['{stage.uri(ENCRYPTED)}'], key_file: {folder}/key}}\n"


def make_files(bench: Bench) -> pathlib.Path:
    """A folder with the model as tensorizer writes it, under a name for each policy, and encrypted."""
    files = bench.make_files("files", bench.options.mib)
    for policy in POLICIES:
        (files / f"{policy}.tensors").hardlink_to(files / TENSORS)
    (bench.scratch / "key").write_bytes(bytes(range(32)))
    convert = [binary("client/cli/weightctl"), "convert", str(files / MODEL), str(files / ENCRYPTED)]
    subprocess.run([*convert, "--encrypt", f"key-file={bench.scratch}/key"], check=True)
    return files


def check(what: str, mib: int, url: str = "") -> measure.Sample:
    """Seconds of a check of so many bytes in memory; with a URL, until those are fetched as well."""
    fetching: list[subprocess.Popen[bytes]] = []
    command = [binary("tests/bench/check_speed"), what, str(mib), str(os.cpu_count())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as checking:
        assert checking.stdin is not None and checking.stdout is not None
        checking.stdout.readline()  # its memory is there
        begin = time.monotonic()
        checking.stdin.close()
        if url:
            half = mib * MIB // CONNECTIONS
            for i in range(CONNECTIONS):
                span = f"{i * half}-{(i + 1) * half - 1}"
                fetching.append(subprocess.Popen(["curl", "-s", "-f", "-o", "/dev/null", "-r", span, url]))
        assert checking.wait() == 0
        assert all(curl.wait() == 0 for curl in fetching)
        return measure.Sample(time.monotonic() - begin, 0)


def contenders(bench: Bench, node: Node, stage: NginxStage) -> dict[str, measure.Contender]:
    """Who is measured."""
    mib, url = bench.options.mib, stage.url(TENSORS)
    made: dict[str, measure.Contender] = {
        **{policy: functools.partial(node.first, stage.uri(f"{policy}.tensors")) for policy in POLICIES},
        "encrypted": functools.partial(node.first, stage.uri(ENCRYPTED)),
    }
    for way in ("tensorizer", "tensorizer_verified"):
        made[way] = functools.partial(run_way, way, url, bench.downloads, bench, stage.env)
    for what in ("sha256", "secretbox"):
        made[what] = functools.partial(check, what, mib)
        made[f"{what} beside curl"] = functools.partial(check, what, mib, url)
    return made


def verdicts(samples: dict[str, list[measure.Sample]]) -> bool:
    """Whether the figures are reached."""
    wall = {name: [sample.wall for sample in runs] for name, runs in samples.items()}

    def speed(what: str, of: str, against: str, figure: float) -> bool:
        return measure.verdict(f"{what}: speed against {against}", figure, wall[against], wall[of])

    slower = max("fast", "secretbox beside curl", key=lambda name: sorted(wall[name])[len(wall[name]) // 2])
    return all(
        [
            measure.verdict("verify fast: time over verify never", 1.1, wall["fast"], wall["never"], at_least=False),
            speed("verify fast", "fast", "tensorizer", 2.5),
            speed("verify fast", "fast", "tensorizer_verified", 3.0),
            speed("verify full", "full", "sha256 beside curl", 0.85),
            speed("encrypted", "encrypted", slower, 0.85),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    options = parser.parse_args()
    options.contenders = ""
    subprocess.run([str(ROOT / "tests" / "bench" / "install_contenders.sh")], check=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        tempfile.TemporaryDirectory(dir="/dev/shm") as downloads,
        measure.HugePages("advise"),
    ):
        ballast = measure.Ballast(2 * options.mib * MIB + 256 * MIB)
        bench = Bench(options, pathlib.Path(scratch), pathlib.Path(downloads), ballast)
        files = make_files(bench)
        folder = bench.folder("nginx")
        with (
            NginxStage(folder, files) as stage,
            Node(bench.folder("node"), config(bench.scratch, stage), bench) as node,
        ):
            samples = measure.rounds(contenders(bench, node, stage), options.rounds, bench.fresh)
        ballast.free()
    measure.table(samples, bench.size)
    return 0 if verdicts(samples) else 1


if __name__ == "__main__":
    sys.exit(main())
