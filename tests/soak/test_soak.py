"""Two minutes of the soak, a few kills, and whether the oracle would notice."""

import pathlib
import subprocess
import sys

import pytest
from kept_node import Seen
from oracle import Metrics, Oracle, Sample, grows
from upgrade import judged

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from processes import BUILD  # noqa: E402


def run(script: str, *arguments: str) -> None:
    file = str(pathlib.Path(__file__).with_name(script))
    done = subprocess.run(
        [sys.executable, file, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


def test_two_minutes() -> None:
    run("soak.py", "--minutes", "2", "--round-seconds", "4")


@pytest.mark.parametrize("victim", ["daemon", "keeper", "both"])
def test_a_few_kills(victim: str) -> None:
    run("restarts.py", "--kills", "12", "--clients", "4", "--victim", victim, "--ready", "30")


def test_a_few_turns_of_two_builds() -> None:
    previous = BUILD.with_name("previous")
    folder = previous if previous.exists() else BUILD
    # On a busy machine daemons take longer, and so does an attach.
    busy = ("--patience", "30", "--least", "0.2")
    run("upgrade.py", "--previous", str(folder), "--turns", "4", "--rate", "40", "--clients", "4", *busy)


def saw(attaches: int, **others: object) -> Seen:
    """A client, in ten seconds."""
    waits = [0.001] * attaches
    return {"attaches": attaches, "retries": 0, "wrong": 0, "waits": waits, "errors": [], "seconds": 10.0, **others}


def test_clients_that_attach_too_seldom_show_nothing() -> None:
    assert judged([saw(250), saw(240)], rate=25, least=0.9)[1] == []
    line, problems = judged([saw(250), saw(150)], rate=25, least=0.9)
    assert "40 attaches a second of 50" in line
    assert problems == ["40 attaches a second, not 50"]
    assert judged([saw(250), saw(150)], rate=25, least=0.7)[1] == []
    assert judged([saw(250, wrong=2, errors=["m: failed"])], rate=25, least=0.9)[1] == ["m: failed", "2 wrong looks"]


@pytest.mark.parametrize("least", [0.0, 0.9])
def test_clients_that_never_attached_are_a_problem(least: float) -> None:
    line, problems = judged([saw(0, errors=["m: failed"])], rate=25, least=least)
    assert "failures 1" in line
    assert problems == ["m: failed", "0 attaches a second, not 25"]


def attached(seed: int, right: bool = True) -> dict[str, object]:
    return {"step": "attached", "model": "m", "seed": seed, "right": right}


def test_the_oracle_knows_which_versions_there_were() -> None:
    oracle = Oracle([1, 3])
    oracle.see(attached(1 << 16 | 3))
    assert oracle.problems() == []
    oracle.see(attached(1 << 16 | 4))
    oracle.see(attached(1 << 16 | 1, right=False))
    oracle.see({"step": "looked", "model": "m", "seed": 1, "wrong": 2})
    oracle.see({"step": "refused", "model": "m", "reason": "INTERNAL", "message": "a bug"})
    assert len(oracle.problems()) == 4


def test_the_oracle_counts_along() -> None:
    oracle = Oracle([1])
    oracle.see(attached(1))
    oracle.count_operator("evict", 0)
    counted = """weightd_acquires_total{listener="default",result="hit"} 1
weightd_leases{listener="default"} 0
weightd_loads_total{reason="ok"} 3
weightd_loads_total{reason="cancelled"} 7
weightd_evictions_total 2
weightd_superseded_total 1
weightd_calls_total{listener="admin",method="Evict",reason="ok"} 1
weightd_calls_total{listener="admin",method="Evict",reason="model_in_use"} 5
"""
    again = """weightd_acquires_total{listener="default",result="load"} 1
weightd_calls_total{listener="default",method="Claim",reason="lease_unknown"} 1
"""
    oracle.check(Metrics(counted))
    oracle.check(Metrics(counted + again))
    assert oracle.problems() == []
    for line, wrong in (("evictions_total 2", "evictions_total 1"), ('result="hit"} 1', 'result="hit"} 2')):
        oracle.check(Metrics(counted.replace(line, wrong)))
    assert len(oracle.problems()) == 2


def test_growth_is_told_from_noise() -> None:
    def samples(descriptors: list[int], kib: list[int]) -> list[Sample]:
        return [Sample(i, d, k << 10, 0) for i, (d, k) in enumerate(zip(descriptors, kib, strict=True))]

    assert grows(samples([40, 44, 41, 43, 42, 41], [100, 140, 104, 96, 120, 110])) == []
    assert len(grows(samples([40, 41, 42, 43, 44, 45], [100, 600, 1100, 1600, 2100, 2600]))) == 2
    up_and_down = [15544, 16092, 15620, 16164, 16260, 17808, 16776, 17832, 16576, 15656, 16112, 17388]
    assert grows(samples([46] * 12, up_and_down)) == []
    assert len(grows(samples([46] * 12, [kib + 200 * i for i, kib in enumerate(up_and_down)]))) == 1
