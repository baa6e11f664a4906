"""What must hold on any GPU: sharing, faults, kills, memory that is freed, private copies, legacy handles, torch."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import typing

from processes import ROOT, Daemon, binary, wait_until
from results import Report
from setting import HERE, MIB, Peer, Setting, expected_sum

READERS = 8
PATIENCE = 30.0  # for what a driver may do a while later


def sums(peers: list[Peer]) -> set[str]:
    """What they read, all at once."""
    for peer in peers:
        peer.send("sum")
    return {str(peer.answer().get("sum")) for peer in peers}


def worker_of(daemon: Daemon) -> int:
    """Process number of the first GPU's worker; 0 if there is none."""
    return int(daemon.status()["gpus"][0].get("worker_pid", 0))


def kill(pid: int) -> None:
    """SIGKILL, and waits for its end."""
    assert pid > 0
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), f"process {pid} is gone", PATIENCE)


def gone(pid: int) -> bool:
    """Whether that process has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def evict(daemon: Daemon, model: str) -> bool:
    """Takes it off the first GPU; whether it could."""
    return daemon.ctl("evict", model, "--gpu", "0", check=False).returncode == 0


def free(observer: Peer) -> int:
    """Bytes of the GPU that nobody holds."""
    return int(observer.ask("free")["free"])


def driver_contract(setting: Setting, report: Report) -> None:
    """What weightd relies on of a driver: the suite that the stand-in passes, too."""
    build = ROOT / ".build" / "opt"
    test = build / "tests/contract/cuda_memory_contract_test"
    environment = {**os.environ, "WEIGHTD_TEST_CUDA_DRIVER": setting.driver, "TEST_TMPDIR": str(setting.scratch)}
    command = [str(test), "--gtest_filter=*Real*", "--gtest_brief=1"]
    done = subprocess.run(command, cwd=build, env=environment, capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-2000:])
    failed = sorted(set(re.findall(r"\[  FAILED  \] (\S+/Real)", done.stdout)))
    report.claim("the driver's contract suite passes", done.returncode == 0, ", ".join(failed) or done.stderr[-200:])


def sharing(setting: Setting, report: Report) -> None:
    """Eight processes, one copy; who writes to it fails alone."""
    expected = expected_sum(setting.small)
    with setting.daemon() as daemon, setting.peers(daemon, READERS + 1) as peers:
        first, *others = peers
        first.ask("attach", model=str(setting.small))
        with_one = free(first)
        for peer in others:
            peer.ask("attach", model=str(setting.small))
        more = with_one - free(first)
        report.claim("more processes take no more memory", more < setting.small_mib * MIB // 4, f"{more} bytes")
        report.claim("all read the right bytes", sums(peers) == {expected}, f"by {first.ask('sum')['by']}")

        worker = worker_of(daemon)
        writer = others.pop()
        failure = writer.ask("write")["failure"]
        report.claim("a write to the shared copy fails", bool(failure), failure)
        writer.send("sum")
        report.claim("its writer can use CUDA no more", "error" in writer.answer())
        report.claim("all others read on", sums([first, *others]) == {expected})
        report.claim("the worker lives on", worker_of(daemon) == worker != 0)
        with setting.peers(daemon, 1) as (late,):
            late.ask("attach", model=str(setting.small))
            report.claim("and serves a new process", sums([late]) == {expected})


def kills(setting: Setting, report: Report) -> None:
    """What is mapped stays, whoever ends."""
    expected = expected_sum(setting.small)
    with setting.daemon() as daemon, setting.peers(daemon, 2) as peers:
        for peer in peers:
            peer.ask("attach", model=str(setting.small))
        worker = worker_of(daemon)
        kill(worker)
        report.claim("memory outlives its exporter: clients read on without the worker", sums(peers) == {expected})
        with setting.peers(daemon, 1) as (late,):
            late.ask("attach", model=str(setting.small))
            report.claim("a new worker serves a new process", sums([late]) == {expected})
            report.claim("it is another", worker_of(daemon) not in (0, worker))
            worker = worker_of(daemon)
            daemon.kill()
            wait_until(lambda: gone(worker), "the worker ends with its daemon", PATIENCE)
            report.claim("clients read on after the daemon's SIGKILL", sums([*peers, late]) == {expected})

            before = free(late)
            late.ask("release")
            nbytes = setting.small_mib * MIB
            freed = wait_until(lambda: free(late) >= before + nbytes, "the last user's memory is freed", PATIENCE)
            report.claim("when its last user lets go, its memory is free", bool(freed))
        with setting.daemon() as another, setting.peers(another, 1) as (fresh,):
            fresh.ask("attach", model=str(setting.small))
            report.claim("another daemon starts beside what is still mapped", sums([fresh, *peers]) == {expected})


def freeing(setting: Setting, report: Report) -> None:
    """What nobody uses is free; a drained GPU has no process of ours."""
    nbytes = setting.small_mib * MIB
    model = str(setting.small)
    with setting.daemon() as daemon, setting.peers(daemon, 2) as (observer, peer):
        peer.ask("attach", model=model)
        held = free(observer)
        report.claim("a leased copy is not evicted", not evict(daemon, model))
        peer.ask("release")
        wait_until(lambda: evict(daemon, model), "evicted", PATIENCE)
        wait_until(lambda: free(observer) >= held + nbytes, "an evicted copy's memory is free", PATIENCE)
        report.claim("an evicted copy's memory is free", True)

        worker = worker_of(daemon)
        daemon.ctl("drain", "--gpu", "0")
        report.claim("a drained GPU has no worker", gone(worker) and worker_of(daemon) == 0)
        daemon.ctl("resume", "--gpu", "0")
        peer.ask("attach", model=model)
        report.claim("a resumed one serves again", sums([peer]) == {expected_sum(setting.small)})


def private(setting: Setting, report: Report) -> None:
    """A copy of one's own: writable, and nobody else's."""
    expected = expected_sum(setting.small)
    model = str(setting.small)
    with setting.daemon() as daemon, setting.peers(daemon, 3) as (reader, owner, other):
        owner.ask("attach", model=model, mode="private")
        report.claim("a copy from host memory has the right bytes", sums([owner]) == {expected})
        reader.ask("attach", model=model)
        other.ask("attach", model=model, mode="private")
        report.claim("so has one from the GPU's", sums([other]) == {expected})
        failure = owner.ask("write")["failure"]
        report.claim("its owner may write", not failure and sums([owner]) != {expected}, failure)
        report.claim("nobody else sees that", sums([reader, other]) == {expected})
        before = free(reader)
        daemon.kill()
        report.claim("it is the owner's without weightd", sums([other]) == {expected})
        other.ask("release")
        wait_until(lambda: free(reader) >= before + setting.small_mib * MIB, "its memory is free", PATIENCE)
        report.claim("and free when that one lets go", True)


def legacy(setting: Setting, report: Report) -> None:
    """CUDA IPC handles, where the config asks for them."""
    config = (
        f"models:\n  - name: legacy\n    uri: file://{setting.small}\n"
        "    placement:\n      gpus: [0]\n      handles: legacy\n"
    )
    with setting.daemon(config) as daemon, setting.peers(daemon, 3) as (one, two, refused):
        for peer in (one, two):
            peer.ask("attach", model="legacy", legacy=True)
        report.claim("processes read it by its handle", sums([one, two]) == {expected_sum(setting.small)})
        refused.send("attach", model="legacy")
        report.claim("a descriptor of it is refused, by name", refused.answer().get("reason") == "PLACEMENT_DIFFERS")


def beside_torch(setting: Setting, report: Report) -> None:
    """torch's context and allocator."""
    if missing := torch_is_missing():
        report.leave_out(f"beside torch: {missing}")
        return
    with setting.daemon() as daemon, setting.peers(daemon, 1) as (peer,):
        for what, held in peer.ask("coexist", model=str(setting.small))["claims"].items():
            report.claim(what, bool(held))


def torch_is_missing() -> str:
    """Why torch can't use the GPU; empty if it can. Asked in a process of its own, which leaves no context here."""
    script = "from torch_here import torch_with_cuda as t; r = t(); print(r if isinstance(r, str) else '')"
    done = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def doctor(setting: Setting, report: Report) -> None:
    """What weightctl says of the driver and of the GPU."""
    with setting.daemon() as daemon:
        command = [binary("client/cli/weightctl"), "--socket-dir", str(daemon.socket_dir), "doctor"]
        done = subprocess.run([*command, "--cuda-driver", setting.driver], capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.split()[1:2] in (["cuda_driver"], ["gpu"])]
        well = len(lines) >= 2 and all(line.startswith("ok ") for line in lines)
        report.claim("doctor finds the driver and the GPU well", well, " ; ".join(lines))


CLAIMS: dict[str, typing.Callable[[Setting, Report], None]] = {
    "contract": driver_contract,
    "doctor": doctor,
    "sharing": sharing,
    "kills": kills,
    "freeing": freeing,
    "private": private,
    "legacy": legacy,
    "torch": beside_torch,
}
