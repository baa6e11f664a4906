"""Counts test cases: reads what Bazel and the test programs reported, names what failed, prints a last line."""

import argparse
import dataclasses
import json
import pathlib
import sys
import urllib.parse
import xml.etree.ElementTree


@dataclasses.dataclass
class Count:
    """Cases that passed, and the names of those that didn't."""

    passed: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)


def cases(report: pathlib.Path) -> Count:
    """Of one JUnit-style report; an unreadable report is one failure."""
    try:
        root = xml.etree.ElementTree.parse(report).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return Count(0, ["no report"])
    count = Count()
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            count.failed.append(f"{case.get('classname')}.{case.get('name')}")
        elif case.find("skipped") is None and case.get("status") != "notrun":
            count.passed += 1
    return count


def bazel(events: pathlib.Path, labels: list[str]) -> Count:
    """Cases of one `bazel test`, by its build events. A target without a result (it did not build) is one failure."""
    total = Count()
    seen = set()
    lines = events.read_text().splitlines() if events.exists() else []
    for event in map(json.loads, lines):
        result = event.get("testResult")
        if result is None:
            continue
        label = event["id"]["testResult"]["label"]
        seen.add(label)
        reports = [
            pathlib.Path(urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path))
            for output in result.get("testActionOutput", [])
            if output["name"] == "test.xml"
        ]
        count = cases(reports[0]) if reports else Count()
        if result["status"] != "PASSED" and not count.failed:
            count.failed.append(result["status"])  # a crash or a timeout
        total.passed += count.passed
        total.failed += [f"{label}: {name}" for name in count.failed]
    total.failed += [f"{label}: no result" for label in labels if label not in seen]
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, help="file of one JSON line a step")
    parser.add_argument("--step", metavar="NAME", help="add this step's count instead of printing the sum")
    parser.add_argument("--junit", type=pathlib.Path, help="the step's report")
    parser.add_argument("--bazel", type=pathlib.Path, help="the step's build events; labels come on standard input")
    parser.add_argument("--exit-code", type=int, default=0, help="the step's exit code")
    options = parser.parse_args()
    if options.step:
        count = Count()
        if options.bazel:
            count = bazel(options.bazel, sys.stdin.read().split())
        elif options.junit:
            count = cases(options.junit)
        elif options.exit_code == 0:
            count.passed = 1
        if options.exit_code and not count.failed:
            count.failed.append(f"exit code {options.exit_code}")
        with options.results.open("a") as results:
            results.write(json.dumps({"step": options.step, **dataclasses.asdict(count)}) + "\n")
        return 0
    steps = [json.loads(line) for line in options.results.read_text().splitlines()]
    for step in steps:
        print(f"  {step['step']}: {step['passed']} passed, {len(step['failed'])} failed")
    for step in steps:
        for name in step["failed"]:
            print(f"FAILED: {step['step']}: {name}")
    passed = sum(step["passed"] for step in steps)
    failed = sum(len(step["failed"]) for step in steps)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
