"""deploy/kubernetes: composed, held against the schemas of Kubernetes, its config read by the daemon."""

import copy
import json
import pathlib
import re
import shutil
import subprocess
import typing

import pytest
import yaml
from chart import ROOT, Renderer
from compose import compose, read
from conftest import CheckConfig
from schemas import VERSIONS, Object, containers_of, pod_of, problem

MANIFESTS = ROOT / "deploy/kubernetes"
# Maps whose keys are anybody's.
FREE_KEYS = {
    "labels",
    "annotations",
    "matchLabels",
    "selector",
    "nodeSelector",
    "data",
    "requests",
    "limits",
    "capacity",
}
ALL_ON = yaml.safe_load(pathlib.Path(__file__).with_name("values_all_on.yaml").read_text())

Path = tuple[str | int, ...]


def with_components(folder: pathlib.Path) -> list[Object]:
    """The base with every component, as somebody may compose it."""
    components = sorted(path.name for path in (MANIFESTS / "components").iterdir())
    (folder / "kustomization.yaml").write_text(
        json.dumps(
            {
                "resources": [str(MANIFESTS / "base")],
                "components": [str(MANIFESTS / "components" / name) for name in components],
            }
        )
    )
    return compose(folder)


SETS = ["base", "all components", "example", "examples", "chart", "chart, all on"]
# Between them they have every line of the manifests and the templates.
EVERY_LINE = pytest.mark.parametrize("objects", ["all components", "examples", "chart, all on"], indirect=True)


@pytest.fixture(params=SETS)
def objects(request: pytest.FixtureRequest, tmp_path: pathlib.Path, chart: Renderer) -> list[Object]:
    """Everything that deploy/ would have Kubernetes make."""
    match request.param:
        case "base":
            return compose(MANIFESTS / "base")
        case "all components":
            return with_components(tmp_path)
        case "example":
            return compose(MANIFESTS / "overlays/example")
        case "examples":
            return [each for file in sorted((MANIFESTS / "examples").glob("*.yaml")) for each in read(file)]
        case "chart":
            return chart.objects({})
        case _:
            return chart.objects(ALL_ON)


def paths(node: typing.Any, at: Path = ()) -> typing.Iterator[Path]:
    """Where every key and element of an object is."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield (*at, key)
        yield from paths(child, (*at, key))


def changed(each: Object, path: Path, change: typing.Callable[[typing.Any, typing.Any], None]) -> Object:
    """A copy with `change(parent, key)` applied at `path`."""
    copied = copy.deepcopy(each)
    parent: typing.Any = copied
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return copied


def test_kubernetes_takes_everything(objects: list[Object]) -> None:
    assert objects
    for version in VERSIONS:
        assert [problem(each, version) for each in objects] == [None] * len(objects)


@EVERY_LINE
def test_a_misspelt_field_is_found(objects: list[Object]) -> None:
    def misspell(parent: Object, key: str) -> None:
        parent[key + "x"] = parent.pop(key)

    for each in objects:
        for path in paths(each):
            free = {str(key) for key in path[:-1]} & FREE_KEYS and not is_label_selector(each, path)
            if isinstance(path[-1], int) or free or path in {("apiVersion",), ("kind",)}:
                continue
            assert problem(changed(each, path, misspell), VERSIONS[1]), f"{each['kind']} with {path} misspelt"


def is_label_selector(each: Object, path: Path) -> bool:
    """Whether the path ends at a LabelSelector's own key: `spec.selector.matchLabels`."""
    return path == ("spec", "selector", "matchLabels") and each["kind"] in {"DaemonSet", "ServiceMonitor"}


@EVERY_LINE
def test_a_value_of_another_type_is_found(objects: list[Object]) -> None:
    def retype(parent: typing.Any, key: typing.Any) -> None:
        parent[key] = [[1]] if not isinstance(parent[key], list) else "text"

    for each in objects:
        for path in paths(each):
            if path in {("apiVersion",), ("kind",)}:
                continue
            assert problem(changed(each, path, retype), VERSIONS[1]), f"{each['kind']} with {path} of another type"


REQUIRED = {
    "DaemonSet": {"selector", "template", "containers", "containerPort", "mountPath", "path", "image"},
    "Pod": {"containers", "mountPath", "path", "image"},
    "NetworkPolicy": {"podSelector"},
    "PriorityClass": {"value"},
    "ServiceMonitor": {"endpoints", "port", "selector"},
    "Service": {"port"},
}
# Where the schemas require nothing.
OPTIONAL_INSIDE = {"configMap", "imagePullSecrets", "ingress", "egress", "metadata"}


@EVERY_LINE
def test_a_missing_field_is_found(objects: list[Object]) -> None:
    def remove(parent: Object, key: str) -> None:
        del parent[key]

    for each in objects:
        for path in paths(each):
            inside = OPTIONAL_INSIDE.intersection(map(str, path))
            if not inside and path[-1] in REQUIRED.get(each["kind"], ()):
                without = changed(each, path, remove)
                assert any(problem(without, version) for version in VERSIONS), f"{each['kind']} without {path}"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "template", "spec", "containers", 0, "resources", "limits", "memory"), "65Gb"),
        (("spec", "template", "spec", "volumes", 0, "hostPath", "type"), "DirectoryOrCreated"),
        (("spec", "updateStrategy", "rollingUpdate", "maxUnavailable"), "one%"),
        (("spec", "template", "metadata", "labels", "app.kubernetes.io/name"), "other"),
        (("spec", "template", "spec", "containers", 0, "image"), "registry.example/weightd"),
        (("spec", "template", "spec", "volumes", 1, "name"), "configs"),
    ],
)
def test_a_value_that_the_schema_does_not_see_is_found(path: Path, value: str) -> None:
    (daemon_set,) = [each for each in compose(MANIFESTS / "base") if each["kind"] == "DaemonSet"]

    def replace(parent: typing.Any, key: typing.Any) -> None:
        parent[key] = value

    assert problem(changed(daemon_set, path, replace), VERSIONS[1])


def why_no_kubectl() -> str:
    """Why there is none to compare with: components came with 1.21. Empty if there is one."""
    if shutil.which("kubectl") is None:
        return "no kubectl to compare with"
    command = ["kubectl", "version", "--client", "--output=json"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    version = re.search(r"v1\.(\d+)", said)
    if version is None:
        return "kubectl doesn't say its version"
    return "" if int(version[1]) >= 21 else f"kubectl {version[0]} knows no components"


NO_KUBECTL = why_no_kubectl()


@pytest.mark.skipif(bool(NO_KUBECTL), reason=NO_KUBECTL)
@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_kubectl_composes_the_same(folder: str) -> None:
    text = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / folder)], capture_output=True, text=True, check=True
    ).stdout

    def place(each: Object) -> tuple[str, str]:
        return each["kind"], each["metadata"]["name"]

    assert sorted(yaml.safe_load_all(text), key=place) == sorted(compose(MANIFESTS / folder), key=place)


@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_the_daemon_reads_its_config(folder: str, check_config: CheckConfig) -> None:
    objects = compose(MANIFESTS / folder)
    config = check_config(objects)
    (daemon_set,) = [each for each in objects if each["kind"] == "DaemonSet"]
    limits = daemon_set["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    gibibytes = int(config["host"]["budget"].removesuffix("GiB"))
    assert limits["memory"] == f"{gibibytes + 1}Gi"  # the budget that the daemon would choose itself


def test_what_is_scraped_is_served() -> None:
    objects = {each["kind"]: each for each in compose(MANIFESTS / "overlays/example")}
    config = yaml.safe_load(objects["ConfigMap"]["data"]["weightd.yaml"])
    port = int(config["metrics"]["address"].rpartition(":")[2])
    (declared,) = objects["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]["ports"]
    (service,) = objects["Service"]["spec"]["ports"]
    (endpoint,) = objects["ServiceMonitor"]["spec"]["endpoints"]
    (rule,) = objects["NetworkPolicy"]["spec"]["ingress"]
    assert declared["containerPort"] == service["port"] == rule["ports"][0]["port"] == port
    assert service["targetPort"] == declared["name"]
    assert endpoint["port"] == service["name"]
    pods = objects["DaemonSet"]["spec"]["template"]["metadata"]["labels"].items()
    assert objects["Service"]["spec"]["selector"].items() <= pods
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= pods
    selected = objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
    assert selected <= objects["Service"]["metadata"]["labels"].items()


def job_of(objects: list[Object]) -> str:
    """What Prometheus' operator makes of the monitor: the label of its service, or the service's name without one."""
    by_kind = {each["kind"]: each for each in objects}
    service = by_kind["Service"]["metadata"]
    return str(service["labels"].get(by_kind["ServiceMonitor"]["spec"].get("jobLabel"), service["name"]))


def test_the_alerts_are_of_the_job_that_is_scraped(chart: Renderer) -> None:
    rules = (ROOT / "deploy/observability/alerts.yaml").read_text()
    (job,) = {*re.findall(r'job="([^"]+)"', rules)}
    assert job_of(compose(MANIFESTS / "overlays/example")) == job
    # Its objects have another name; what they are is the same.
    assert job_of(chart.objects(ALL_ON, release="second")) == job


def test_images_are_of_this_version(objects: list[Object]) -> None:
    header = (ROOT / "common/version.h").read_text()
    version = re.search(r'kVersion\[\] = "([^"]+)"', header)
    assert version is not None
    for each in objects:
        pod = pod_of(each)
        for container in containers_of(pod) if pod else ():
            name, _, tag = container["image"].rpartition(":")
            assert tag == version[1] or not name.endswith("/weightd")


def test_a_pod_needs_what_the_page_says() -> None:
    page = (ROOT / "deploy/README.md").read_text()
    (block,) = re.findall(r"```yaml\n(containers:.*?)```", page, re.DOTALL)
    needed = yaml.safe_load(block)
    (pod,) = read(MANIFESTS / "examples/model-pod.yaml")
    assert needed["volumes"] == pod["spec"]["volumes"]
    for container in containers_of(pod):
        assert container["volumeMounts"] == needed["containers"][0]["volumeMounts"]


def test_the_page_says_what_was_looked_at() -> None:
    page = " ".join((MANIFESTS / "README.md").read_text().split())
    oldest, newest = (version.rpartition(".")[0] for version in VERSIONS)
    assert f"Kubernetes {oldest} to {newest} " in page
    (policy,) = [each for each in compose(MANIFESTS / "base") if each["kind"] == "NetworkPolicy"]
    assert "lets out DNS and TCP 443 and 80 " in page
    assert {(port["protocol"], port["port"]) for rule in policy["spec"]["egress"] for port in rule["ports"]} == {
        ("UDP", 53),
        ("TCP", 53),
        ("TCP", 443),
        ("TCP", 80),
    }


def test_the_page_names_what_there_is() -> None:
    page = (MANIFESTS / "README.md").read_text()
    named = {*re.findall(r"deploy/(?:kubernetes|helm)/[\w./-]+", page)}
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
    linked = {*re.findall(r"\]\(([^)#:]+)\)", page)}
    assert [path for path in linked if not (MANIFESTS / path).exists()] == []
