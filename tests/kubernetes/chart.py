"""deploy/helm/weightd as `helm template` renders it: values merged and held against the schema, then Go's templates."""

import copy
import json
import os
import pathlib
import subprocess
import typing

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/weightd"

Values = dict[str, typing.Any]


class Renderer:
    """Renders the chart. Builds its program in `folder` first, with Debian's Go and Debian's sprig."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._program = folder / "render"
        subprocess.run(
            ["go", "build", "-o", str(self._program), "render.go"],
            cwd=pathlib.Path(__file__).parent,
            env={**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode"},
            check=True,
        )

    def texts(self, values: Values, release: str = "weightd", namespace: str = "weightd") -> dict[str, str]:
        """Each template's text, by its file's name."""
        merged = with_defaults(values)
        check_values(merged)
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        context = {
            "Values": merged,
            "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
            "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"},
        }
        rendered = subprocess.run(
            [self._program, CHART / "templates"], input=json.dumps(context), capture_output=True, text=True, check=False
        )
        assert rendered.returncode == 0, rendered.stderr
        return json.loads(rendered.stdout)

    def objects(self, values: Values, **release: str) -> list[dict[str, typing.Any]]:
        """The objects that would be installed."""
        texts = self.texts(values, **release)
        parsed = [yaml.safe_load(text) for name, text in texts.items() if name.endswith(".yaml")]
        return [each for each in parsed if each is not None]


def with_defaults(values: Values) -> Values:
    """The chart's values with these over them: maps are merged, all else is replaced, null takes a key away."""
    return _merged(yaml.safe_load((CHART / "values.yaml").read_text()), values)


def _merged(defaults: Values, values: Values) -> Values:
    merged = copy.deepcopy(defaults)
    for key, value in values.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def check_values(values: Values) -> None:
    """Raises jsonschema.ValidationError unless the chart's schema allows them."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(values)
