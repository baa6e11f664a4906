"""weightd beside what people load models with, from nginx, from Ceph RGW and from a local disk.

.venv/bin/python tests/bench/compare.py [--parts nginx,rgw,disk,again,processes] [--contenders weightd,tensorizer,…]
    [--mib 2048] [--rounds 15] [--out DIR]

Needs root (huge pages, page cache). Prints Markdown; writes results.json, results.md, plot.png and plot.svg to DIR
after each part. A part that is run again replaces what DIR has of it.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing

sys.path += [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("e2e", "servers", "bench")]

import grpc  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
from admin import AdminCalls  # noqa: E402
from models import even_model  # noqa: E402
from processes import ROOT, Daemon, binary, wait_until  # noqa: E402
from stage import STAGES, Stage, key  # noqa: E402

MIB = 1 << 20
PYTHON = str(ROOT / ".bench-venv" / "bin" / "python")
CONTENDERS = str(pathlib.Path(__file__).with_name("contenders.py"))
PATIENCE = 300.0  # seconds that one run may take
MODEL, TENSORS = "m.safetensors", "m.tensors"

WRITE_TENSORS = """
import sys
from safetensors.torch import load_file
from tensorizer import TensorSerializer
serializer = TensorSerializer(sys.argv[2])
serializer.write_state_dict(load_file(sys.argv[1]))
serializer.close()
"""

# Wanted at least: how many times weightd's time a contender takes.
FIGURES = {("nginx", "tensorizer"): 2.8, ("rgw", "tensorizer"): 2.0, ("rgw", "runai"): 2.5}


@dataclasses.dataclass
class Bench:
    """What all parts share: options, and a folder of files, one model in safetensors and in tensorizer's format."""

    options: argparse.Namespace
    scratch: pathlib.Path
    downloads: pathlib.Path  # in memory
    ballast: measure.Ballast

    @property
    def size(self) -> int:
        return int(self.options.mib) * MIB

    def wanted(self, *ways: str) -> list[str]:
        """Those that --contenders names."""
        return [way for way in ways if not self.options.contenders or way in self.options.contenders.split(",")]

    def folder(self, name: str) -> pathlib.Path:
        """A new folder."""
        path = self.scratch / name
        path.mkdir()
        return path

    def make_files(self, name: str, mib: int) -> pathlib.Path:
        """A folder with the model."""
        files = self.folder(name)
        even_model(files / MODEL, mib * MIB, 300)
        if self.wanted("tensorizer"):
            subprocess.run([PYTHON, "-c", WRITE_TENSORS, str(files / MODEL), str(files / TENSORS)], check=True)
        os.sync()
        return files

    def fresh(self) -> None:
        """Before each run: nothing downloaded, and memory to load into."""
        for path in self.downloads.iterdir():
            path.unlink()
        self.ballast.hold()


def run_way(
    way: str, target: str, folder: pathlib.Path, bench: Bench, env: dict[str, str], python: str = PYTHON
) -> measure.Sample:
    """A load of the model in a process of its own, into the memory that the ballast held while it was imported."""
    command = [python, CONTENDERS, way, target, "--folder", str(folder), "--size", str(bench.size)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env={**os.environ, **env}, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # ready, or ended
        bench.ballast.free()
        try:
            printed, errors = process.communicate("\n", timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    if process.returncode != 0:
        raise RuntimeError(" ".join(errors.strip().splitlines()[-1:]) or f"exit code {process.returncode}")
    sample = json.loads(printed.splitlines()[-1])
    return measure.Sample(sample["wall"], sample["cpu"], sample["peak"])


def or_error(contender: measure.Contender) -> measure.Sample:
    """The contender's run; if it fails, a sample with the reason."""
    try:
        return contender()
    except (AssertionError, RuntimeError, subprocess.SubprocessError, grpc.RpcError) as error:
        return measure.Sample(0, 0, error=str(error) or repr(error))


class Node:
    """A daemon, for clients that are processes of their own. Its CPU time and memory count with theirs."""

    def __init__(self, folder: pathlib.Path, config: str, bench: Bench) -> None:
        self.daemon = Daemon(folder, f"host:\n  budget: {bench.size + 512 * MIB}\n{config}").start()
        self._admin = AdminCalls(self.daemon.socket_dir)
        self._bench = bench

    def first(self, uri: str) -> measure.Sample:
        """Attach to a model that is not resident: the daemon loads it."""
        try:
            return self._attach(uri)
        finally:
            wait_until(lambda: self._evicted(uri), f"nobody holds {uri}")

    def again(self, uri: str) -> measure.Sample:
        """Attach to one that is."""
        self._bench.ballast.free()
        self._admin.preload(uri)
        return self.first(uri)

    def _evicted(self, uri: str) -> bool:
        """Drops a model unless the daemon has yet to see that its client ended."""
        try:
            self._admin.evict(uri)
        except grpc.RpcError as error:
            return error.code() == grpc.StatusCode.NOT_FOUND
        return True

    def _attach(self, uri: str) -> measure.Sample:
        pid = self.daemon.pid
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM starts anew (proc(5))
        cpu, memory = measure.cpu_of(pid), self.daemon.memory()["VmRSS"]
        sample = run_way("weightd", uri, self.daemon.socket_dir, self._bench, {}, sys.executable)
        sample.cpu += measure.cpu_of(pid) - cpu
        sample.peak += self.daemon.memory()["VmHWM"] - memory
        return sample

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.end()


def measured(bench: Bench, contenders: dict[str, measure.Contender], fresh: typing.Callable[[], None]) -> report.Part:
    """Rounds of all contenders."""
    guarded = {name: functools.partial(or_error, contender) for name, contender in contenders.items()}
    return report.Part(bench.size, measure.rounds(guarded, bench.options.rounds, fresh))


def from_server(server: str, bench: Bench) -> report.Part:
    """A first load from a server, and a second process's attach."""
    folder = bench.folder(server)
    files = bench.make_files(f"{server}/files", bench.options.mib)
    with STAGES[server](folder, files) as stage, Node(folder, stage.config, bench) as node:
        contenders: dict[str, measure.Contender] = {}
        for count in (1, 2, 4, 8, 16):
            start = functools.partial(measure.curls, stage.url(MODEL), (files / MODEL).stat().st_size, count)
            contenders[f"curl x{count}"] = functools.partial(measure.timed_children, start)
        if bench.wanted("weightd"):
            contenders[report.FIRST] = functools.partial(node.first, stage.uri(MODEL))
            contenders[report.SECOND] = functools.partial(node.again, stage.uri(MODEL))
        for way in bench.wanted("tensorizer", "runai", "boto3", "s5cmd"):
            target = tensorizer_target(stage, server) if way == "tensorizer" else key(MODEL)
            contenders[way] = functools.partial(run_way, way, target, bench.downloads, bench, stage.env)
        return measured(bench, contenders, bench.fresh)


def tensorizer_target(stage: Stage, server: str) -> str:
    """It has a client for plain HTTP and one for S3."""
    return key(TENSORS) if server == "rgw" else stage.url(TENSORS)


FILE_WAYS = ("safetensors_torch", "safetensors_numpy", "fastsafetensors", "runai", "tensorizer")


def file_contenders(bench: Bench, files: pathlib.Path) -> dict[str, measure.Contender]:
    """Everyone's load of a local file."""
    return {
        way: functools.partial(
            run_way, way, str(files / (TENSORS if way == "tensorizer" else MODEL)), bench.downloads, bench, {}
        )
        for way in bench.wanted(*FILE_WAYS)
    }


def from_disk(bench: Bench) -> report.Part:
    """A first load from a local disk, page cache dropped."""
    files = bench.make_files("disk", bench.options.mib)

    def fresh() -> None:
        bench.fresh()
        for path in files.iterdir():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    contenders: dict[str, measure.Contender] = {}
    for threads, mib in ((2, 4), (4, 1), (4, 4)):
        command = [binary("tests/bench/direct_read"), str(files / MODEL), str(threads), str(mib * MIB), "direct"]
        start = functools.partial(lambda command: [measure.spawn(*command)], command)
        reads = functools.partial(measure.timed_children, start)
        contenders[f"O_DIRECT {threads} x {mib} MiB"] = bench.ballast.freed_for(reads)
    with Node(bench.folder("disk-node"), "", bench) as node:
        if bench.wanted("weightd"):
            contenders[report.FIRST] = functools.partial(node.first, str(files / MODEL))
        return measured(bench, {**contenders, **file_contenders(bench, files)}, fresh)


def again(bench: Bench) -> report.Part:
    """A second process on the same node: weightd has the model, the others have its file in the page cache."""
    files = bench.make_files("again", bench.options.mib)

    def fresh() -> None:
        bench.fresh()
        for path in files.iterdir():
            subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True)

    with Node(bench.folder("again-node"), "", bench) as node:
        contenders = file_contenders(bench, files)
        if bench.wanted("weightd"):
            contenders[report.SECOND] = functools.partial(node.again, str(files / MODEL))
        return measured(bench, contenders, fresh)


def processes(bench: Bench) -> report.Processes:
    """What several processes with the same file take, in memory that is shared out (Pss)."""
    mib = min(bench.options.mib, 1024)  # eight copies and their making fit into 16 GiB
    files = bench.make_files("processes", mib)
    held: dict[str, dict[int, int]] = {}
    with Node(bench.folder("processes-node"), "", bench) as node:
        for way in bench.wanted("nothing", "weightd", *FILE_WAYS):
            held[way] = hold(way, files, node, bench.options.processes)
    return report.Processes(mib * MIB, held)


def hold(way: str, files: pathlib.Path, node: Node, most: int) -> dict[int, int]:
    """Bytes that 1, 2, 4, … processes take together, each with all pages read."""
    target = str(files / (TENSORS if way == "tensorizer" else MODEL))
    python = sys.executable if way == "weightd" else PYTHON
    command = [python, CONTENDERS, way, target, "--folder", str(node.daemon.socket_dir), "--hold"]
    totals: dict[int, int] = {}
    with contextlib.ExitStack() as holding:
        pids = [node.daemon.pid] if way == "weightd" else []
        for count in range(1, most + 1):
            process = holding.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert process.stdin is not None and process.stdout is not None
            holding.callback(process.stdin.close)
            assert process.stdout.readline(), f"{way} failed"
            pids.append(process.pid)
            if count & (count - 1) == 0:
                totals[count] = sum(pss(pid) for pid in pids)
    return totals


def pss(pid: int) -> int:
    """A process's memory in bytes, where what is shared counts by its share (proc(5), smaps_rollup)."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


PARTS: dict[str, typing.Callable[[Bench], report.Part | report.Processes]] = {
    "nginx": functools.partial(from_server, "nginx"),
    "rgw": functools.partial(from_server, "rgw"),
    "disk": from_disk,
    "again": again,
    "processes": processes,
}


def verdicts(parts: dict[str, report.Part]) -> bool:
    """Whether the figures are reached, as far as they were measured."""
    reached = True
    for (part, name), figure in FIGURES.items():
        if part in parts and {name, "weightd"} <= parts[part].samples.keys():
            theirs, ours = report.paired(parts[part], name, "weightd")
            reached &= bool(ours) and measure.verdict(f"{part}: {name}'s time over weightd's", figure, theirs, ours)
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--contenders", default="", help="names of contenders.py; all if empty")
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / ".build" / "compare")
    options = parser.parse_args()
    subprocess.run([str(pathlib.Path(__file__).with_name("install_contenders.sh"))], check=True)
    options.out.mkdir(parents=True, exist_ok=True)
    results = report.Results(options.out)
    print(f"{results.machine}. {report.LEGEND}\n")
    parts = options.parts.split(",")
    for part in parts:
        with (
            tempfile.TemporaryDirectory() as scratch,
            tempfile.TemporaryDirectory(dir="/dev/shm") as downloads,
            measure.HugePages("advise"),
        ):
            # Some hold a model twice while they load it.
            ballast = measure.Ballast(2 * options.mib * MIB + 256 * MIB)
            results.add(part, PARTS[part](Bench(options, pathlib.Path(scratch), pathlib.Path(downloads), ballast)))
            ballast.free()
        print(results.markdown(part), end="\n\n", flush=True)
        subprocess.run([PYTHON, str(pathlib.Path(__file__).with_name("plot.py")), str(options.out)], check=True)
    return 0 if verdicts({part: results.parts[part] for part in parts if part in results.parts}) else 1


if __name__ == "__main__":
    sys.exit(main())
