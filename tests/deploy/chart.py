"""The Helm chart as a cluster would get it: rendered by helm, held against Kubernetes' own API by kubeconform.

Tools are built from their Go modules, once, into build/tools. The schemas are made from what the Go modules of
Kubernetes and of the two operators say of their API; an unknown field is an error.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "telltale"
BUILT = ROOT / "build" / "tools"
TOOLS = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.18.6",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0",
    "alertmanager": "github.com/prometheus/alertmanager/cmd/alertmanager@v0.28.1",  # as in docker-compose.yml
    "amtool": "github.com/prometheus/alertmanager/cmd/amtool@v0.28.1",
}
OF_THIS_VERSION = ("alertmanager", "amtool")  # another one, such as Debian's, does not do
KUBERNETES = "1.34.3"
API = f"k8s.io/kubernetes@v{KUBERNETES}"
PROMETHEUS = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
KEDA = "github.com/kedacore/keda/v2@v2.17.2"
OPERATORS = (
    (PROMETHEUS, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
    (PROMETHEUS, "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"),
    (PROMETHEUS, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
    (KEDA, "config/crd/bases/keda.sh_scaledobjects.yaml"),
)
# What the API's description calls a string and takes as a number too.
EITHER = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": ["string", "integer"],
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ["string", "number"],
}
BUILT_WITHIN_S = 1_800.0
GO = (1, 24)  # an older one may fetch this by itself, from 1.21 on
NEEDED = (
    f"these tests need Go {GO[0]}.{GO[1]} or newer, which builds {', '.join(TOOLS)} and fetches the schemas of "
    "Kubernetes"
)


class NoTools(Exception):
    """A tool could not be built."""


class NoGo(NoTools):
    """There is no Go here that could build it; the message says which is needed."""


@cache
def tool(name: str) -> str:
    """The program's path; built first where it is not there yet. Raises NoTools."""
    elsewhere = "" if name in OF_THIS_VERSION else os.pathsep + os.environ["PATH"]
    if found := shutil.which(name, path=f"{BUILT}{elsewhere}"):
        return found
    _go("install", TOOLS[name], GOBIN=str(BUILT))
    return str(BUILT / name)


def render(**values: object) -> list[dict[str, Any]]:
    """The objects that the chart makes; subprocess.CalledProcessError where it refuses to.

    values: by their names, with __ for a dot.
    """
    command = [tool("helm"), "template", "plant", str(CHART), "--kube-version", KUBERNETES, "--namespace", "factory"]
    sets = [f"--set-json={name.replace('__', '.')}={json.dumps(value)}" for name, value in values.items()]
    ended = subprocess.run([*command, *sets], capture_output=True, text=True, check=True, timeout=60)
    return [one for one in yaml.safe_load_all(ended.stdout) if one is not None]


def lint() -> str:
    """What `helm lint` finds. Raises subprocess.CalledProcessError where that is an error or a warning."""
    command = [tool("helm"), "lint", "--strict", "--kube-version", KUBERNETES, str(CHART)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def complaints(objects: list[dict[str, Any]]) -> list[str]:
    """What kubeconform says against them; an object it has no schema for is a complaint."""
    where = f"{schemas()}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    ended = subprocess.run(
        [tool("kubeconform"), "-strict", "-output", "json", "-schema-location", where],
        input=yaml.safe_dump_all(objects),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = json.loads(ended.stdout)["resources"] or []
    return [f"{one['kind']} {one['name']}: {one['msg']}" for one in found]


@cache
def schemas() -> Path:
    """A folder with a JSON schema for every kind, as kubeconform names them."""
    folder = BUILT / f"schemas-{sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        making = folder.with_suffix(f".{os.getpid()}")
        making.mkdir(parents=True)
        for name, schema in (*_of_kubernetes(), *_of_operators()):
            (making / name).write_text(json.dumps(schema))
        try:
            making.rename(folder)
        except OSError:  # another run was faster
            shutil.rmtree(making)
    return folder


def _of_kubernetes() -> Iterator[tuple[str, object]]:
    described = json.loads((_module(API) / "api" / "openapi-spec" / "swagger.json").read_text())["definitions"]
    definitions = {name: _strict(one) for name, one in described.items()}
    for name, types in EITHER.items():
        definitions[name] = {"type": types}
    for name, one in described.items():
        for kind in one.get("x-kubernetes-group-version-kind", []):
            yield (
                _file(kind["kind"], kind["group"], kind["version"]),
                {"$ref": f"#/definitions/{name}", "definitions": _reached(name, definitions)},
            )


def _of_operators() -> Iterator[tuple[str, object]]:
    for module, file in OPERATORS:
        spec = yaml.load((_module(module) / file).read_text(), _Loader)["spec"]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            yield _file(spec["names"]["kind"], spec["group"], version["name"]), schema


class _Loader(yaml.SafeLoader):
    """Takes = for the text that it is in a list of comparisons."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def _file(kind: str, group: str, version: str) -> str:
    return "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part) + ".json"


def _strict(schema: Any) -> Any:
    """The same, without room for fields that it does not name."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(one) for name, one in schema.items() if name != "description"}
    named = isinstance(schema.get("properties"), dict) and schema.get("type", "object") == "object"
    if named and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict["additionalProperties"] = False
    return strict


def _reached(name: str, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions that one needs."""
    reached: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in reached:
            reached[one] = definitions[one]
            waiting += _references(definitions[one])
    return reached


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for one in schema:
            yield from _references(one)
    elif isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix("#/definitions/")
        for one in schema.values():
            yield from _references(one)


def _module(module: str) -> Path:
    """Where a Go module's files are."""
    return Path(json.loads(_go("mod", "download", "-json", module))["Dir"])


def _go(*arguments: str, **environment: str) -> str:
    if shutil.which("go") is None:
        raise NoGo(f"{NEEDED}; found no Go: https://go.dev/dl")
    ended = subprocess.run(
        ["go", *arguments],
        cwd="/",  # outside of any module
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILT_WITHIN_S,
    )
    if ended.returncode:
        failed = f"go {' '.join(arguments)}: {ended.stderr.strip()[-1000:]}"
        raise NoGo(f"{NEEDED}; found {_go_version()}: {failed}") if _is_old(_go_version()) else NoTools(failed)
    return ended.stdout


def _go_version() -> str:
    return subprocess.run(["go", "version"], cwd="/", capture_output=True, text=True, check=False).stdout.strip()


def _is_old(version: str) -> bool:
    found = re.search(r"go(\d+)\.(\d+)", version)
    return found is not None and tuple(map(int, found.groups())) < GO
