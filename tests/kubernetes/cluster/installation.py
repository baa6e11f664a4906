"""The objects of deploy/kubernetes as the suite's one small node can hold them: less memory and fewer cores, images and
folders of the suite's own. All else stays as it is in deploy/."""

import json
import pathlib
import sys
import typing

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]

sys.path.insert(0, str(HERE.parent))

from compose import compose, read  # noqa: E402
from schemas import Object, containers_of  # noqa: E402

MANIFESTS = ROOT / "deploy/kubernetes"
IMAGE = "localhost/weightd"
CONFIG = """
socket_dir: /run/weightd
host:
  budget: 640MiB
listeners:
  - name: pods
    directory: /run/weightd/pods
    mode: "0755"
    access:
      attach: ["**"]
      load_configured: ["**"]
models:
{models}
sources:
  file:
    roots: [/srv/models]
"""


def config(*models: str) -> str:
    """Models of these names, each a file of /srv/models that is loaded at the start."""
    lines = [f"  - {{name: {name}, uri: file:///srv/models/{name}.safetensors, preload: true}}" for name in models]
    return CONFIG.format(models="\n".join(lines))


def daemon_objects(folder: pathlib.Path, tag: str) -> list[Object]:
    """The base with node tuning; its sockets are made in folder/run, its models lie in folder/models."""
    volumes = "/spec/template/spec/volumes"
    container = "/spec/template/spec/containers/0"
    resources = {"cpu": "500m", "memory": "1664Mi"}
    patch: list[dict[str, typing.Any]] = [
        {"op": "replace", "path": f"{volumes}/0/hostPath/path", "value": f"{folder}/run"},
        {
            "op": "add",
            "path": f"{volumes}/-",
            "value": {"name": "models", "hostPath": {"path": f"{folder}/models", "type": "Directory"}},
        },
        {
            "op": "add",
            "path": f"{container}/volumeMounts/-",
            "value": {"name": "models", "mountPath": "/srv/models", "readOnly": True},
        },
        {"op": "replace", "path": f"{container}/resources", "value": {"requests": resources, "limits": resources}},
    ]
    settings = [{"op": "replace", "path": "/data/weightd.yaml", "value": config("llama")}]
    overlay = folder / "overlay"
    overlay.mkdir(exist_ok=True)
    (overlay / "kustomization.yaml").write_text(
        json.dumps(
            {
                "resources": [str(MANIFESTS / "base")],
                "components": [str(MANIFESTS / "components/huge-pages")],
                "images": [{"name": "registry.example/weightd", "newName": IMAGE, "newTag": tag}],
                "patches": [
                    {"target": {"kind": "DaemonSet", "name": "weightd"}, "patch": json.dumps(patch)},
                    {"target": {"kind": "ConfigMap", "name": "weightd"}, "patch": json.dumps(settings)},
                ],
            }
        )
    )
    return compose(overlay)


def model_pod(folder: pathlib.Path, tag: str) -> Object:
    """The example; its limit is less than the model."""
    (pod,) = read(MANIFESTS / "examples/model-pod.yaml")
    for container in containers_of(pod):
        container["image"] = f"{IMAGE}:{tag}"
    server = pod["spec"]["containers"][0]
    server["command"] = ["python3", "/opt/server.py", "llama"]
    server["resources"] = dict.fromkeys(("requests", "limits"), {"cpu": "400m", "memory": "128Mi"})
    pod["spec"]["volumes"][0]["hostPath"]["path"] = f"{folder}/run/pods"
    return pod


def team_objects(folder: pathlib.Path, tag: str) -> list[Object]:
    """The volume and the claim of a namespace that refuses folders of the node, and a pod there."""
    volume, claim = read(MANIFESTS / "examples/restricted-namespace.yaml")
    volume["spec"]["hostPath"]["path"] = f"{folder}/run/pods"
    namespace = claim["metadata"]["namespace"]
    pod = model_pod(folder, tag)
    pod["metadata"]["namespace"] = namespace
    pod["spec"]["volumes"] = [
        {"name": "weightd", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"], "readOnly": True}}
    ]
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, volume, claim, pod]
