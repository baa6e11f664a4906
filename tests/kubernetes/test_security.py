"""What the pods of deploy/ may do on a node: as little as they need."""

import pathlib

import pytest
import yaml
from chart import ROOT, Renderer
from compose import compose, read
from schemas import Object, containers_of
from test_manifests import ALL_ON, MANIFESTS, with_components


@pytest.fixture(params=["base", "all components", "chart", "chart, all on"])
def installed(request: pytest.FixtureRequest, tmp_path: pathlib.Path, chart: Renderer) -> dict[str, Object]:
    """One object of each kind, but for the keeper's."""
    match request.param:
        case "base":
            objects = compose(MANIFESTS / "base")
        case "all components":
            objects = with_components(tmp_path)
        case "chart":
            objects = chart.objects({})
        case _:
            objects = chart.objects(ALL_ON)
    objects, keepers = without_keeper(objects)
    assert len(keepers) == (request.param in ("all components", "chart, all on"))
    by_kind = {each["kind"]: each for each in objects}
    assert len(by_kind) == len(objects)
    return by_kind


def without_keeper(objects: list[Object]) -> tuple[list[Object], list[Object]]:
    """The others, and the keeper's."""
    keepers = [each for each in objects if each["metadata"]["name"].endswith("-keeper")]
    return [each for each in objects if each not in keepers], keepers


def model_pod() -> Object:
    (pod,) = read(MANIFESTS / "examples/model-pod.yaml")
    return pod


def test_the_daemon_has_one_capability(installed: dict[str, Object]) -> None:
    pod = installed["DaemonSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (daemon,) = pod["containers"]
    assert daemon["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]},
    }
    assert not {"hostPID", "hostIPC", "hostNetwork"} & set(pod)


def test_the_keeper_has_no_rights_and_stays_when_daemons_roll(tmp_path: pathlib.Path, chart: Renderer) -> None:
    """In both ways of installing it; what it differs in from the daemon is what it doesn't need."""
    for all_objects in (with_components(tmp_path), chart.objects({"keeper": {"enabled": True}})):
        objects, (keeper,) = without_keeper(all_objects)
        (daemon,) = [each for each in objects if each["kind"] == "DaemonSet"]
        assert keeper["spec"]["updateStrategy"] == {"type": "OnDelete"}
        labels = keeper["spec"]["template"]["metadata"]["labels"]
        assert labels != daemon["spec"]["selector"]["matchLabels"]
        assert keeper["spec"]["selector"]["matchLabels"] == labels
        pod, beside = keeper["spec"]["template"]["spec"], daemon["spec"]["template"]["spec"]
        for same in ("nodeSelector", "tolerations", "securityContext", "serviceAccountName", "priorityClassName"):
            assert pod[same] == beside[same]
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"] == beside["containers"][0]["image"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert pod["volumes"][0]["hostPath"] == beside["volumes"][0]["hostPath"]
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False


def test_only_node_tuning_is_privileged(installed: dict[str, Object]) -> None:
    pod = installed["DaemonSet"]["spec"]["template"]["spec"]
    privileged = [each for each in pod.get("initContainers", []) if each["securityContext"].get("privileged")]
    assert privileged == pod.get("initContainers", [])
    for container in privileged:
        assert container["command"][2].startswith("weightctl doctor --fix; grep ")
        assert not container.get("volumeMounts")


def test_nothing_of_the_node_but_the_socket_folder_is_writable(installed: dict[str, Object]) -> None:
    pod = installed["DaemonSet"]["spec"]["template"]["spec"]
    of_the_node = {volume["name"] for volume in pod["volumes"] if "hostPath" in volume}
    (daemon,) = pod["containers"]
    writable = {mount["mountPath"] for mount in daemon["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/run/weightd"}
    assert of_the_node >= {mount["name"] for mount in daemon["volumeMounts"] if mount["mountPath"] == "/run/weightd"}
    assert not [mount for mount in daemon["volumeMounts"] if "subPath" in mount]


def test_no_pod_has_a_token_of_the_api(installed: dict[str, Object]) -> None:
    assert installed["ServiceAccount"]["automountServiceAccountToken"] is False
    for pod in (installed["DaemonSet"]["spec"]["template"], model_pod()):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False


def test_requests_are_limits(installed: dict[str, Object]) -> None:
    for pod in (installed["DaemonSet"]["spec"]["template"], model_pod()):
        for container in containers_of(pod):
            resources = container["resources"]
            assert resources["requests"] == resources["limits"]
            assert set(resources["limits"]) == {"cpu", "memory"}  # no GPU is claimed


def test_nobody_calls_the_daemon_but_who_scrapes(installed: dict[str, Object]) -> None:
    policy = installed["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    scraped = "Service" in installed
    assert bool(policy["ingress"]) == scraped
    for rule in policy["ingress"]:
        assert rule["from"]
        assert rule["ports"]
    assert all(rule["ports"] for rule in policy["egress"])


def test_clients_have_no_rights_of_operators(installed: dict[str, Object]) -> None:
    config = yaml.safe_load(installed["ConfigMap"]["data"]["weightd.yaml"])
    assert config["socket_dir"] == "/run/weightd"
    for listener in config["listeners"]:
        assert listener["directory"].startswith("/run/weightd/")  # not the folder of admin.sock
        assert listener["access"]


def test_a_model_pod_needs_one_folder_and_no_rights() -> None:
    pod = model_pod()["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (volume,) = pod["volumes"]
    assert volume["hostPath"] == {"path": "/run/weightd/pods", "type": "Directory"}
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["volumeMounts"] == [{"name": "weightd", "mountPath": "/run/weightd", "readOnly": True}]
        assert "env" not in container


def test_no_image_floats() -> None:
    files = [*MANIFESTS.rglob("*.yaml"), *(ROOT / "deploy/helm").rglob("*.yaml")]
    assert files
    assert [file for file in files if ":latest" in file.read_text()] == []
