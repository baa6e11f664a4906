"""Whether Kubernetes would take an object: its published schemas, strictly, and what they leave open that we use."""

import functools
import json
import pathlib
import re
import typing

import jsonschema
import kubernetes_validate
import referencing
from kubernetes_validate import utils

Object = dict[str, typing.Any]

# The oldest and the newest release whose schemas there are.
VERSIONS = (utils.all_versions()[0], kubernetes_validate.latest_version())
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?")
HOST_PATH_TYPES = {"", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", "CharDevice", "BlockDevice"}
SERVICE_MONITOR = pathlib.Path(__file__).with_name("service_monitor.schema.json")


@functools.cache
def _validator(kind: str, api_version: str, version: str) -> jsonschema.protocols.Validator:
    """As kubernetes_validate.validate makes it for each object, with unknown fields forbidden."""
    if kind == "ServiceMonitor":
        return jsonschema.Draft7Validator(json.loads(SERVICE_MONITOR.read_text()))
    folder = f"kubernetes-json-schema/v{version}-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = utils.schema_contents(f"{folder}/{kind.lower()}-{group}.json", version)
    definitions = referencing.Resource.from_contents(utils.schema_contents(f"{folder}/_definitions.json", version))
    registry = definitions @ (referencing.Resource.from_contents(schema) @ referencing.Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _nodes(node: typing.Any) -> typing.Iterator[Object]:
    """Every map in an object."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(child)


def pod_of(each: Object) -> Object | None:
    """The metadata and spec of the pods that an object makes; None if it makes none."""
    if each["kind"] == "Pod":
        return each
    return typing.cast(Object, each["spec"]["template"]) if each["kind"] == "DaemonSet" else None


def containers_of(pod: Object) -> list[Object]:
    """Init containers too."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def _open_points(each: Object) -> typing.Iterator[str]:
    """What is wrong that the schemas don't see."""
    for node in _nodes(each):
        for amounts in (node.get("requests"), node.get("limits")):
            for name, amount in (amounts or {}).items():
                if not QUANTITY.fullmatch(str(amount)):
                    yield f"{name}: {amount} is no quantity"
        host_path = node.get("hostPath")
        if host_path and host_path.get("type", "") not in HOST_PATH_TYPES:
            yield f"hostPath.type: {host_path['type']}"
    pod = pod_of(each)
    if pod is None:
        return
    if each["kind"] == "DaemonSet":
        if not each["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items():
            yield "the selector doesn't match the pods' labels"
        strategy = each["spec"]["updateStrategy"]
        if strategy.get("type") not in ("RollingUpdate", "OnDelete"):
            yield f"updateStrategy.type: {strategy.get('type')}"
        unavailable = strategy.get("rollingUpdate", {}).get("maxUnavailable")
        if isinstance(unavailable, str) and not re.fullmatch("[0-9]+%", unavailable):
            yield f"maxUnavailable: {unavailable}"
    volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
    for container in containers_of(pod):
        if not re.fullmatch(r"[^:@]+(:[0-9]+/[^:@]+)?:[\w.-]+", container.get("image", "")):
            yield f"container {container['name']} names no version of its image"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"container {container['name']} mounts {mount['name']}, which is no volume"


def problem(each: Object, version: str) -> str | None:
    """Why that release of Kubernetes would refuse the object, or None."""
    try:
        _validator(each["kind"], each["apiVersion"], version).validate(each)
    except jsonschema.ValidationError as error:
        return f"{each['kind']} {error.json_path}: {error.message}"
    except FileNotFoundError:
        return f"Kubernetes {version} has no {each['kind']} of {each['apiVersion']}"
    return next(_open_points(each), None)
