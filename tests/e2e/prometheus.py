"""Prometheus' text format, and a real Prometheus on loopback that scrapes a daemon."""

import json
import pathlib
import re
import socket
import subprocess
import typing
import urllib.parse
import urllib.request

from processes import PATIENCE, wait_until

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# How a histogram's samples end.
PARTS = ("_bucket", "_sum", "_count")


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(url: str) -> str:
    """What a web server answers."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


class Scrape:
    """One look at all metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        # By family.
        self.types: dict[str, str] = {}
        self.labels: dict[str, set[str]] = {}
        # By the series as PromQL writes it, labels sorted.
        self.values: dict[str, float] = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                self.types[name] = kind
            elif line and not line.startswith("#"):
                sample = SAMPLE.match(line)
                assert sample, line
                labels = dict(LABEL.findall(sample[2] or ""))
                self.labels.setdefault(self.family(sample[1]), set()).update(labels.keys() - {"le"})
                self.values[series(sample[1], **labels)] = float(sample[3])

    def family(self, name: str) -> str:
        """The name that its type goes by."""
        for part in PARTS:
            if name.endswith(part) and self.types.get(name.removesuffix(part)) in ("histogram", "summary"):
                return name.removesuffix(part)
        return name

    def get(self, name: str) -> float:
        """The value of a series; 0 if it isn't there."""
        return self.values.get(name, 0)


def series(name: str, **labels: str) -> str:
    """As PromQL writes it."""
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if labels else name


class Prometheus:
    """Scrapes one target as the job "weightd" and evaluates a file of rules. Ends with its block."""

    def __init__(self, folder: pathlib.Path, target: str, rules: pathlib.Path) -> None:
        folder.mkdir()
        self._url = f"http://127.0.0.1:{free_port()}"
        (folder / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 200ms, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: weightd
    static_configs: [{{targets: ["{target}"]}}]
""")
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address={self._url.removeprefix('http://')}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._scrapes, f"Prometheus scrapes {target}", timeout=3 * PATIENCE)

    def _scrapes(self) -> bool:
        assert self._process.poll() is None, "Prometheus ended"
        try:
            return bool(self.query("up == 1"))
        except OSError:
            return False

    def query(self, expression: str) -> list[dict[str, typing.Any]]:
        """The samples that an expression gives now; a mistake in it fails the test."""
        return typing.cast(list[dict[str, typing.Any]], self._ask("query", query=expression)["result"])

    def rules(self) -> list[dict[str, typing.Any]]:
        """The rules, and how their evaluation went."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, what: str, **parameters: str) -> dict[str, typing.Any]:
        answer = json.loads(get(f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return typing.cast(dict[str, typing.Any], answer["data"])

    def firing(self) -> set[str]:
        """The alerts that fire."""
        return {rule["name"] for rule in self.rules() if rule["state"] == "firing"}

    def __enter__(self) -> "Prometheus":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
