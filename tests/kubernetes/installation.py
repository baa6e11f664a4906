"""The objects of deploy/kubernetes as one small node can hold them: less memory and fewer cores, images and folders of
the tests' own. All else stays as it is in deploy/."""

import hashlib
import json
import pathlib
import sys
import typing

from chart import ROOT
from compose import compose, read
from schemas import Object, containers_of

sys.path.insert(0, str(ROOT / "tests/e2e"))

from models import even_model  # noqa: E402

MANIFESTS = ROOT / "deploy/kubernetes"
MODEL_BYTES = 256 << 20
IMAGE = "localhost/weightd"
DAEMON = {"cpu": "500m", "memory": "1664Mi"}
# Less memory than the model.
SMALL = {"cpu": "400m", "memory": "128Mi"}
CONFIG = """
socket_dir: /run/weightd
keeper_dir: /run/weightd/keeper
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


def _exactly(amounts: dict[str, str]) -> Object:
    return {"requests": amounts, "limits": amounts}


def config(*models: str) -> str:
    """Models of these names, each a file of /srv/models that is loaded at the start."""
    lines = [f"  - {{name: {name}, uri: file:///srv/models/{name}.safetensors, preload: true}}" for name in models]
    return CONFIG.format(models="\n".join(lines))


def write_models(folder: pathlib.Path) -> str:
    """Makes folder/models with "llama" and "small"; the SHA-256 of llama's tensors, which lie one after the other."""
    llama = even_model(folder / "models/llama.safetensors", MODEL_BYTES, 4)
    even_model(folder / "models/small.safetensors", 2 << 20, 4, seed=2)
    llama.parent.chmod(0o755)
    content = llama.read_bytes()
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def daemon_objects(folder: pathlib.Path, tag: str) -> list[Object]:
    """The base with node tuning; its sockets are made in folder/run, its models lie in folder/models."""
    volumes = "/spec/template/spec/volumes"
    container = "/spec/template/spec/containers/0"
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
        *(
            {"op": "replace", "path": f"/spec/template/spec/{group}/0/resources", "value": _exactly(amounts)}
            for group, amounts in (("containers", DAEMON), ("initContainers", SMALL))
        ),
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


def keeper_template(folder: pathlib.Path, tag: str) -> Object:
    """The keeper's pods, in folder/run as the daemon."""
    (daemon_set,) = read(MANIFESTS / "components/keeper/daemon-set.yaml")
    template: Object = daemon_set["spec"]["template"]
    (container,) = template["spec"]["containers"]
    container["image"] = f"{IMAGE}:{tag}"
    template["spec"]["volumes"][0]["hostPath"]["path"] = f"{folder}/run"
    return template


def model_pod(folder: pathlib.Path, tag: str) -> Object:
    """The example; its limit is less than the model."""
    (pod,) = read(MANIFESTS / "examples/model-pod.yaml")
    for container in containers_of(pod):
        container["image"] = f"{IMAGE}:{tag}"
        container["resources"] = _exactly(SMALL)
    pod["spec"]["containers"][0]["command"] = ["python3", "/opt/server.py", "llama"]
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
