"""Kubernetes objects as `kubectl kustomize FOLDER` composes them, as far as deploy/ uses it.

Its components need a kubectl of 1.21 or newer, which Debian 12 doesn't have; where there is one, a test compares both.
"""

import copy
import pathlib
import typing

import jsonpatch
import yaml

Object = dict[str, typing.Any]
KNOWN_KEYS = {"apiVersion", "kind", "resources", "components", "images", "patches"}


def read(path: pathlib.Path) -> list[Object]:
    """The objects of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def compose(folder: pathlib.Path) -> list[Object]:
    """The objects of a folder with a kustomization.yaml."""
    return _applied(folder, [])


def _applied(folder: pathlib.Path, objects: list[Object]) -> list[Object]:
    """What becomes of `objects` with the folder's kustomization."""
    (kustomization,) = read(folder / "kustomization.yaml")
    unknown = set(kustomization) - KNOWN_KEYS
    assert not unknown, f"{folder}: {sorted(unknown)} is more than this composes"
    objects = copy.deepcopy(objects)
    for resource in kustomization.get("resources", []):
        path = folder / resource
        objects += compose(path) if path.is_dir() else read(path)
    for component in kustomization.get("components", []):
        objects = _applied(folder / component, objects)
    for patch in kustomization.get("patches", []):
        text = patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text()
        objects = _patched(objects, patch["target"], yaml.safe_load(text))
    for image in kustomization.get("images", []):
        _rename(objects, image)
    return objects


def _patched(objects: list[Object], target: dict[str, str], operations: list[Object]) -> list[Object]:
    def is_target(each: Object) -> bool:
        return each["kind"] == target["kind"] and each["metadata"]["name"] == target["name"]

    assert any(is_target(each) for each in objects), f"no object for the patch of {target}"
    return [jsonpatch.apply_patch(each, operations) if is_target(each) else each for each in objects]


def _rename(node: typing.Any, image: dict[str, str]) -> None:
    """Gives all containers of that image its new name and tag."""
    if isinstance(node, list):
        for each in node:
            _rename(each, image)
    elif isinstance(node, dict):
        for container in node.get("containers", []) + node.get("initContainers", []):
            name, _, tag = container["image"].rpartition(":")
            if name == image["name"]:
                container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"
        for each in node.values():
            _rename(each, image)
