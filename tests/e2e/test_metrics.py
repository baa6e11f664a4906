"""Metrics: each is moved by doing what it counts; a real Prometheus reads them for the dashboard and the alerts."""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import typing
import urllib.request

import grpc
import pytest
import yaml
from gpu_node import GpuNode
from keepers import Keeper
from metrics_steps import Daemons, Step, World, start, steps
from processes import PATIENCE, ROOT, Daemon, binary, wait_until
from prometheus import Prometheus, Scrape, free_port
from weightd.v1 import admin_pb2

OBSERVABILITY = ROOT / "deploy/observability"


def take(world: World, step: Step) -> None:
    """Does what the step does and waits until all that it moves is where it should be."""
    before = Scrape("") if step.action is start else world.scrape()
    step.action(world)
    wrong: dict[str, tuple[float, float]] = {}

    def moved() -> bool:
        after = world.scrape()
        wrong.clear()
        wrong.update(
            {
                name: (before.get(name), after.get(name))
                for name, right in step.moves.items()
                if not right(before.get(name), after.get(name))
            }
        )
        return not wrong

    try:
        wait_until(moved, "the metrics move", timeout=3 * PATIENCE)
    except AssertionError:
        pytest.fail(f"{step.action}: (before, after) of what did not move as it should: {wrong}")


@pytest.fixture
def world(tmp_path: pathlib.Path, daemons: Daemons) -> typing.Iterator[World]:
    node = GpuNode("2x128MiB")
    with tempfile.TemporaryDirectory(prefix="weightd-") as folder, Keeper(pathlib.Path(folder) / "keeper") as keeper:
        made = World(tmp_path, daemons, node, keeper)
        yield made
        made.end()
        made.daemon.end()
    node.close()


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric in the README's table."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (.*?) \|", (ROOT / "daemon/metrics/README.md").read_text(), flags=re.MULTILINE
    )
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def admin_metrics(daemon: Daemon) -> str:
    """What operators are given."""
    with grpc.insecure_channel(f"unix:{daemon.socket_dir}/admin.sock") as channel:
        call = channel.unary_unary(
            "/weightd.v1.Admin/GetMetrics",
            admin_pb2.GetMetricsRequest.SerializeToString,
            admin_pb2.GetMetricsResponse.FromString,
        )
        return str(call(admin_pb2.GetMetricsRequest(), timeout=20).text)


def dashboard() -> typing.Any:
    return json.loads((OBSERVABILITY / "dashboard.json").read_text())


def queries() -> list[tuple[str, str]]:
    """The dashboard's, each with its panel's title, as Grafana would send them."""
    found = []
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$job", "weightd").replace("$instance", ".*")
            found.append((panel["title"], expression.replace("$__rate_interval", "5m")))
    return found


def rules() -> list[dict[str, typing.Any]]:
    """The alert rules."""
    groups = yaml.safe_load((OBSERVABILITY / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def names_in(expressions: typing.Iterable[str]) -> set[str]:
    """The metrics that they are about, histograms by the names of their families."""
    known = documented()
    names = {name for expression in expressions for name in re.findall(r"\b(?:weightd|process)_\w+", expression)}
    families = {name: re.sub("_(bucket|sum|count)$", "", name) for name in names}
    return {family if known.get(family, ("",))[0] == "histogram" else name for name, family in families.items()}


def test_each_metric_is_moved_by_what_it_counts(world: World, tmp_path: pathlib.Path) -> None:
    with Prometheus(tmp_path / "prometheus", f"127.0.0.1:{world.port}", OBSERVABILITY / "alerts.yaml") as server:
        # Some take a restart: test_readoption.py moves them; or memory that is short: counters_test.cc.
        moved = {
            "weightd_build_info",
            "weightd_readopted_models",
            "weightd_not_readopted_total",
            "weightd_pins_lost_total",
            "weightd_unknown_descriptors_total",
            "weightd_not_kept_total",
        }
        for step in steps(world.node):
            take(world, step)
            moved |= {world.scrape().family(name.split("{")[0]) for name in step.moves}
        scrape = world.scrape()
        version = subprocess.run([binary("daemon/weightd"), "--version"], capture_output=True, text=True).stdout
        (build,) = (name for name in scrape.values if name.startswith("weightd_build_info"))
        assert f'version="{version.split()[1]}"' in build

        ours = {name for name in scrape.types if not name.startswith("exposer_")}
        assert moved == ours
        assert {name: (scrape.types[name], scrape.labels[name]) for name in ours} == documented()
        assert set(Scrape(admin_metrics(world.daemon)).types) == ours

        check = subprocess.run(["promtool", "check", "metrics"], input=scrape.text, capture_output=True, text=True)
        assert (check.returncode, check.stderr) == (0, "")

        assert [(title, query) for title, query in queries() if not server.query(query)] == []
        wait_until(lambda: all(rule["health"] == "ok" for rule in server.rules()), "all rules were evaluated")
        wait_until(lambda: {"WeightdVerificationFailed", "WeightdGpuLost"} <= server.firing(), "alerts fire")


def test_rules_are_right() -> None:
    for arguments in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run(["promtool", *arguments], cwd=OBSERVABILITY, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    tests = (OBSERVABILITY / "alerts_test.yaml").read_text()
    for rule in rules():
        # Once where it is quiet, once where it fires.
        assert tests.count(f'alertname="{rule["alert"]}"') >= 3, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_prometheus_takes_what_the_page_has_it_scrape(tmp_path: pathlib.Path) -> None:
    page = (ROOT / "deploy/README.md").read_text()
    (block,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", page, re.DOTALL)
    (tmp_path / "prometheus.yaml").write_text(block)
    (tmp_path / "alerts.yaml").write_text((OBSERVABILITY / "alerts.yaml").read_text())
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (scraped,) = yaml.safe_load(block)["scrape_configs"]
    assert {*re.findall(r'job="(\w+)"', (OBSERVABILITY / "alerts.yaml").read_text())} == {scraped["job_name"]}


def test_what_alerts_and_panels_name_exists() -> None:
    assert names_in(rule["expr"] for rule in rules()) <= documented().keys()
    # Nothing is measured that nobody is shown.
    assert names_in(query for _, query in queries()) == documented().keys()


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    board = dashboard()
    assert board.keys() >= {"uid", "title", "schemaVersion", "panels", "templating", "time"}
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables.keys() == {"datasource", "job", "instance"}
    assert variables["datasource"]["type"] == "datasource"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel.keys() >= {"title", "datasource", "fieldConfig", "options", "targets"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert 'job="$job"' in target["expr"] and 'instance=~"$instance"' in target["expr"], target["expr"]


def listening(pid: int) -> int:
    """TCP sockets of the process that listen."""
    inodes = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.readlink(fd))
    tables = [pathlib.Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    fields = [line.split() for table in tables for line in table]
    return sum(1 for field in fields if field[3] == "0A" and f"socket:[{field[9]}]" in inodes)


def test_nothing_listens_unless_the_config_says_so(daemons: Daemons) -> None:
    assert listening(daemons().pid) == 0
    with_metrics = daemons(f"metrics:\n  address: 127.0.0.1:{free_port()}\n")
    wait_until(lambda: listening(with_metrics.pid) == 1, "metrics are served")


def test_an_address_that_is_taken_is_said(daemons: Daemons) -> None:
    port = free_port()
    first = daemons(f"metrics:\n  address: 127.0.0.1:{port}\n")
    wait_until(lambda: listening(first.pid) == 1, "metrics are served")
    second = daemons(f"metrics:\n  address: 127.0.0.1:{port}\n", wait=False)
    assert second.process is not None
    assert second.process.wait(PATIENCE) != 0
    said = second.log().splitlines()[-2:]
    assert said == [
        f"weightd: metrics.address: listen on 127.0.0.1:{port}: Address already in use",
        "  another process listens there (`ss -ltnp` says which): end it, or configure another port",
    ]
    second.process = None


def test_connections_that_say_nothing_do_not_stop_a_scrape(daemons: Daemons) -> None:
    port = free_port()
    served = daemons(f"metrics:\n  address: 127.0.0.1:{port}\n")
    wait_until(lambda: listening(served.pid) == 1, "metrics are served")
    with contextlib.ExitStack() as idle:
        silent = [idle.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(10)]
        for connection in silent[::2]:
            connection.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b"weightd_build_info" in answer.read()
        # They lose their threads.
        for connection in silent:
            connection.settimeout(PATIENCE)
            while connection.recv(4096):
                pass
