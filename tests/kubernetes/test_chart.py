"""deploy/helm/weightd: the same as the plain manifests, and values that are checked."""

import copy
import typing

import jsonschema
import pytest
import yaml
from chart import CHART, Renderer, Values, check_values, with_defaults
from compose import compose
from conftest import CheckConfig
from schemas import Object
from test_manifests import ALL_ON, MANIFESTS

OF_HELM = {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}


def comparable(objects: list[Object]) -> dict[str, Object]:
    """By kind, without what only a chart adds, and with the config read."""
    result = copy.deepcopy({each["kind"]: each for each in objects if each["kind"] != "Namespace"})
    for each in result.values():
        each["metadata"]["labels"] = {
            name: value for name, value in each["metadata"]["labels"].items() if name not in OF_HELM
        }
    if "annotations" in (pods := result["DaemonSet"]["spec"]["template"]["metadata"]):
        assert set(pods.pop("annotations")) == {"checksum/settings"}
    data = result["ConfigMap"]["data"]
    data["weightd.yaml"] = yaml.safe_load(data["weightd.yaml"])
    return result


def test_its_defaults_are_the_base(chart: Renderer) -> None:
    assert comparable(chart.objects({})) == comparable(compose(MANIFESTS / "base"))


def test_its_options_are_the_example(chart: Renderer) -> None:
    example = comparable(compose(MANIFESTS / "overlays/example"))
    config = example["ConfigMap"]["data"]["weightd.yaml"]
    values: Values = {
        "image": {"repository": "registry.example/platform/weightd"},
        "cacheGiB": 128,
        "models": config["models"],
        "config": {"sources": config["sources"]},
        "metrics": {"enabled": True, "serviceMonitor": {"enabled": True}},
        "nodeTuning": {"enabled": True},
        "serviceAccount": {"annotations": example["ServiceAccount"]["metadata"]["annotations"]},
    }
    assert comparable(chart.objects(values)) == example


def test_every_option_shows(chart: Renderer, check_config: CheckConfig) -> None:
    objects = chart.objects(ALL_ON)
    config = check_config(objects)
    for section, value in ALL_ON["config"].items():
        assert config[section] == value
    assert config["models"] == ALL_ON["models"]
    assert config["listeners"] == ALL_ON["listeners"]
    assert config["host"]["budget"] == "128GiB"
    assert config["metrics"]["address"] == "0.0.0.0:9000"
    text = "\n".join(chart.texts(ALL_ON).values())
    for shown in (
        "registry.example:5000/platform/weightd:0.1.0",
        "memory: 137Gi",
        "runtimeClassName: nvidia",
        "secretName: model.keys",
        "mountPath: /etc/weightd-secrets/model.keys",
        "mountPath: /srv/models",
        "maxUnavailable: 10%",
        "kubernetes.io/metadata.name: observability",
        "interval: 15s",
        "release: prometheus",
        "example.com/team: platform",
        "value: http://proxy.example:3128",
        "path: /var/lib/weightd/pods",  # of NOTES.txt
    ):
        assert shown in text


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"networkPolicy": {"enabled": False}}, "NetworkPolicy"),
        ({"priorityClass": {"create": False, "name": "high"}}, "PriorityClass"),
        ({"metrics": {"enabled": True}}, "ServiceMonitor"),
        ({"metrics": {"serviceMonitor": {"enabled": True}}}, "Service"),
    ],
)
def test_an_option_that_is_off_leaves_nothing(values: Values, kind: str, chart: Renderer) -> None:
    assert kind not in {each["kind"] for each in chart.objects(values)}


def test_a_release_has_its_own_names(chart: Renderer) -> None:
    for each in chart.objects({}, release="second", namespace="models"):
        assert each["metadata"]["name"] == "second"
        assert each["metadata"].get("namespace", "models") == "models"
    (daemon_set,) = [each for each in chart.objects({}, release="second") if each["kind"] == "DaemonSet"]
    pod = daemon_set["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("second", "second")
    assert pod["volumes"][1]["configMap"]["name"] == "second"


def test_models_change_without_a_roll_and_settings_with_one(chart: Renderer) -> None:
    def pods(values: Values) -> object:
        (daemon_set,) = [each for each in chart.objects(values) if each["kind"] == "DaemonSet"]
        return daemon_set["spec"]["template"]

    model = {"name": "llama", "uri": "s3://models/llama/"}
    assert pods({"models": [model]}) == pods({})
    assert pods({"config": {"verify": "full"}}) != pods({})


def test_its_version_is_its_app_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"]


def places(values: typing.Any, at: tuple[str, ...] = ()) -> typing.Iterator[tuple[str, ...]]:
    """Where the chart's values have maps."""
    yield at
    for key, value in values.items():
        if isinstance(value, dict):
            yield from places(value, (*at, key))


def nested(at: tuple[str, ...], value: object) -> Values:
    for key in reversed(at):
        value = {key: value}
    return typing.cast(Values, value)


# Names of labels and annotations are the user's.
OPEN = {
    ("serviceAccount", "annotations"),
    ("podAnnotations",),
    ("nodeSelector",),
    ("metrics", "serviceMonitor", "labels"),
}


def test_an_unknown_value_is_refused() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    for at in set(places(defaults)) - OPEN:
        with pytest.raises(jsonschema.ValidationError):
            check_values(with_defaults(nested((*at, "misspelt"), "x")))


def test_a_value_of_another_type_is_refused() -> None:
    def leaves(values: typing.Any, at: tuple[str, ...] = ()) -> typing.Iterator[tuple[str, ...]]:
        for key, value in values.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, (*at, key))
            else:
                yield (*at, key)

    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    for at in leaves(defaults):
        with pytest.raises(jsonschema.ValidationError):
            check_values(with_defaults(nested(at, 0.5)))


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"tag": "latest"}},
        {"image": {"repository": "registry.example/weightd:0.1.0"}},
        {"cacheGiB": 0},
        {"cpu": 4},
        {"models": [{"name": "llama"}]},
        {"models": [{"name": "llama", "uri": "s3://m/l/", "preloaded": True}]},
        {"listeners": []},
        {"listeners": [{"name": "pods", "directory": "/run/weightd", "mode": "0755"}]},
        {"listeners": [{"name": "pods", "directory": "/run/weightd/pods", "mode": 493}]},
        {"config": {"host": {"budget": "1GiB"}}},
        {"updateStrategy": {"maxUnavailable": "all"}},
        {"metrics": {"port": 70000}},
        {"priorityClass": {"create": False}},
    ],
)
def test_a_mistaken_value_is_refused(values: Values) -> None:
    check_values(with_defaults({}))
    with pytest.raises(jsonschema.ValidationError):
        check_values(with_defaults(values))
