"""What must be true of a soak: which bytes may be seen, what was counted, what may not grow."""

import collections
import dataclasses
import math
import re
import statistics
import threading
import typing

# Refusals that a full budget, an eviction or a source that just changed may give.
EXPECTED_REFUSALS = {"BUDGET_EXCEEDED", "CANCELLED", "SOURCE_CHANGED", "MODEL_NOT_RESIDENT", "LEASE_UNKNOWN"}
# What operators do, and the calls that this makes.
OPERATIONS = {"preload": "Preload", "evict": "Evict", "pin": "Pin", "unpin": "Unpin", "reload": "ReloadConfig"}


@dataclasses.dataclass(frozen=True)
class Sample:
    """The daemon at rest."""

    steps: int
    descriptors: int
    anonymous: int
    shared: int

    def __str__(self) -> str:
        return f"{self.descriptors} descriptors, {self.anonymous >> 10} KiB anonymous, {self.shared >> 10} KiB shared"


class Metrics:
    """What the daemon counted, in Prometheus' text format."""

    def __init__(self, text: str) -> None:
        self._lines = [line for line in text.splitlines() if line and not line.startswith("#")]

    def sum(self, name: str, **labels: str) -> int:
        """Of all series of that name with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            int(float(line.rsplit(" ", 1)[1]))
            for line in self._lines
            if re.match(rf"{name}[ {{]", line) and all(pair in line for pair in wanted)
        )


class Oracle:
    """Fed by the clients' steps, from several threads."""

    def __init__(self, versions: list[int]) -> None:
        self._versions = versions
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        self._problems: list[str] = []

    @property
    def steps(self) -> int:
        """Steps of all clients."""
        return sum(self._counts.values())

    def see(self, step: dict[str, typing.Any]) -> None:
        """One step of a client."""
        with self._lock:
            self._counts[step["step"]] += 1
            if step["step"] == "attached":
                index, version = step["seed"] >> 16, step["seed"] & 0xFFFF
                if not step["right"]:
                    self._problems.append(f"{step['model']} was asked for, model {index} was given")
                elif not 1 <= version <= self._versions[index]:
                    self._problems.append(f"{step['model']}: version {version} never was")
            elif step["step"] == "looked" and step["wrong"]:
                self._problems.append(f"{step['model']}, seed {step['seed']}: {step['wrong']} wrong words")
            elif step["step"] == "refused":
                self._counts[f"refused {step['reason']}"] += 1
                if step["reason"] not in EXPECTED_REFUSALS:
                    self._problems.append(f"{step['model']} was refused: {step['message']}")

    def count_operator(self, what: str, exit_code: int) -> None:
        """One command of an operator."""
        with self._lock:
            self._counts[f"{what} {'done' if exit_code == 0 else 'refused'}"] += 1

    def check(self, metrics: Metrics) -> None:
        """Holds the daemon's counters against what was seen, while nobody holds anything and no model is there."""
        with self._lock:
            attached, lost = self._counts["attached"], self._counts["died_asking"]
            granted = metrics.sum("weightd_acquires_total")
            # Such a lease was evicted before its claim; the client asks for another.
            lost += metrics.sum("weightd_calls_total", method="Claim", reason="lease_unknown")
            rules = {
                f"{granted} leases granted, {attached} attached, {lost} may have been lost": attached
                <= granted
                <= attached + lost,
                "leases, or memory of models, though nobody holds any": metrics.sum("weightd_leases") == 0
                and metrics.sum("weightd_host_bytes") == 0,
                "verification failed": metrics.sum("weightd_verification_failures_total") == 0,
            }
            came = metrics.sum("weightd_loads_total", reason="ok")
            evicted, superseded = (metrics.sum(f"weightd_{what}_total") for what in ("evictions", "superseded"))
            rules[f"{came} loads finished, {evicted} evictions, {superseded} superseded"] = came == evicted + superseded
            for command, method in OPERATIONS.items():
                done = metrics.sum("weightd_calls_total", listener="admin", method=method, reason="ok")
                expected = self._counts[f"{command} done"]
                rules[f"{done} times {method}, {expected} times {command}"] = done == expected
            self._problems += [f"counters: {rule}" for rule, holds in rules.items() if not holds]

    def problems(self, first: int = 0) -> list[str]:
        """What was wrong, from that one on."""
        with self._lock:
            return self._problems[first:]

    def summary(self) -> str:
        """How much happened."""
        with self._lock:
            counts = self._counts
            refused = sum(number for what, number in counts.items() if what.startswith("refused "))
            operations = sum(number for what, number in counts.items() if what.endswith(" done"))
            return (
                f"{counts['attached']} attached, {counts['looked']} looks, {refused} refused, "
                f"{counts['died_asking']} killed while asking, {operations} operations, {len(self._problems)} problems"
            )


def slope(samples: list[Sample], value: typing.Callable[[Sample], float]) -> float:
    """Growth for each round, by Theil and Sen: the median over all pairs, which outliers don't move."""
    return statistics.median(
        (value(late) - value(early)) / (j - i)
        for i, early in enumerate(samples)
        for j, late in enumerate(samples)
        if i < j
    )


def rises(samples: list[Sample], value: typing.Callable[[Sample], float]) -> bool:
    """Whether the order of the rounds shows in the values, by Mann and Kendall: in one of 100 runs noise does."""
    pairs = sum(
        (value(late) > value(early)) - (value(late) < value(early))
        for i, early in enumerate(samples)
        for late in samples[i + 1 :]
    )
    count = len(samples)
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return pairs - 1 > 2.33 * deviation


def grows(samples: list[Sample]) -> list[str]:
    """What grows from round to round. Memory of allocators goes up and down: it grows if it rises with the rounds, by
    over 2 MiB in all or, in many rounds, by over 8 KiB a round: pools come to their size within some 50 rounds."""
    problems = []
    noise = max(8 << 10, (2 << 20) // len(samples))
    if slope(samples, lambda sample: sample.descriptors) > 0:
        problems.append(f"descriptors grow: {[sample.descriptors for sample in samples]}")
    for name, value in (("anonymous", lambda s: s.anonymous), ("shared", lambda s: s.shared)):
        if slope(samples, value) > noise and rises(samples, value):
            problems.append(f"{name} memory grows: {[value(sample) >> 10 for sample in samples]} KiB")
    return problems
