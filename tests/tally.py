"""Counts test cases: reads what Bazel and the test programs reported and prints the one line that ends a test run."""

import argparse
import json
import pathlib
import sys
import urllib.parse
import xml.etree.ElementTree


def cases(report: pathlib.Path) -> tuple[int, int]:
    """Passed and failed cases of one JUnit-style report; an unreadable report is one failure."""
    try:
        root = xml.etree.ElementTree.parse(report).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return 0, 1
    passed = failed = 0
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is None and case.get("status") != "notrun":
            passed += 1
    return passed, failed


def bazel(events: pathlib.Path, labels: list[str]) -> tuple[int, int]:
    """Cases of one `bazel test`, by its build events. A target without a result (it did not build) is one failure."""
    counts: dict[str, tuple[int, int]] = {}
    lines = events.read_text().splitlines() if events.exists() else []
    for event in map(json.loads, lines):
        result = event.get("testResult")
        if result is None:
            continue
        label = event["id"]["testResult"]["label"]
        passed, failed = counts.get(label, (0, 0))
        reports = [
            pathlib.Path(urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path))
            for output in result.get("testActionOutput", [])
            if output["name"] == "test.xml"
        ]
        more_passed, more_failed = cases(reports[0]) if reports else (0, 0)
        if result["status"] != "PASSED" and not more_failed:
            more_failed = 1  # a crash or a timeout
        counts[label] = passed + more_passed, failed + more_failed
    for label in labels:
        counts.setdefault(label, (0, 1))
    for label, (_, failed) in sorted(counts.items()):
        if failed:
            print(f"  {label}: {failed} failed")
    return sum(passed for passed, _ in counts.values()), sum(failed for _, failed in counts.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, help="file of `passed failed name` lines, one a step")
    parser.add_argument("--step", metavar="NAME", help="add this step's count instead of printing the sum")
    parser.add_argument("--junit", type=pathlib.Path, help="the step's report")
    parser.add_argument("--bazel", type=pathlib.Path, help="the step's build events; labels come on standard input")
    parser.add_argument("--exit-code", type=int, default=0, help="the step's exit code")
    options = parser.parse_args()
    if options.step:
        passed = failed = 0
        if options.bazel:
            passed, failed = bazel(options.bazel, sys.stdin.read().split())
        elif options.junit:
            passed, failed = cases(options.junit)
        elif options.exit_code == 0:
            passed = 1
        if options.exit_code and not failed:
            failed = 1
        with options.results.open("a") as results:
            results.write(f"{passed} {failed} {options.step}\n")
        return 0
    steps = [line.split(" ", 2) for line in options.results.read_text().splitlines()]
    for step_passed, step_failed, name in steps:
        print(f"  {name}: {step_passed} passed, {step_failed} failed")
    passed, failed = (sum(int(step[column]) for step in steps) for column in (0, 1))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
