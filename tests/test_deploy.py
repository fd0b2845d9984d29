"""What a reader copies: example configurations, compose file, image, unit, dashboard, snippets and links."""

from __future__ import annotations

import ast
import asyncio
import configparser
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from coe_gateway.admission import Admission
from coe_gateway.metrics import Metrics
from coe_gateway.settings import GatewaySettings, Settings, load_settings
from experts.errors import InvalidConfig
from experts.registry import LlamaCppEntry
from experts.sources import parse_source
from memory_tiers.manager import ResidencyManager
from memory_tiers.scheduling import scheduler_of
from routers.examples import default_categories
from tests.serving import serving

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
COMPOSE = ROOT / "docker-compose.yml"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
EXTERNAL = re.compile(r"^(?:[a-z]+:|//)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DRAIN_S = float(GatewaySettings().drain_timeout_s)


def documents() -> list[Path]:
    """Every Markdown file that is, or could be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:  # an unpacked archive
        return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def fences(path: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(path.read_text("utf-8")) if language in languages]


def loaded(text: str) -> Settings:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return load_settings(Path(file.name))


# Example configurations.


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_is_a_configuration_that_could_start(path: Path) -> None:
    settings = load_settings(path)
    for entry in settings.experts:
        if isinstance(entry, LlamaCppEntry):
            assert [parse_source(source) for source in entry.weights.sources]
            assert entry.spec().device_bytes > entry.weights.size_bytes
            assert entry.spec().device_bytes <= settings.residency.device_budget_bytes, entry.id
    assert settings.router is not None
    known = {category.name for category in default_categories()}
    for profile in (settings.router, *settings.router.profiles.values()):
        assert profile.mapping.keys() <= known


@pytest.mark.parametrize("name", ["coe.yaml", "coe-full.yaml"])
def test_the_budget_does_not_hold_every_expert_at_once(name: str) -> None:
    settings = load_settings(ROOT / "examples" / name)
    assert sum(entry.spec().device_bytes for entry in settings.experts) > settings.residency.device_budget_bytes


def test_the_full_example_extends_the_default_one(example_settings: Settings) -> None:
    full = load_settings(ROOT / "examples" / "coe-full.yaml")
    weights = {e.id: e.weights for e in full.experts if isinstance(e, LlamaCppEntry)}
    assert [weights[e.id] for e in example_settings.experts if isinstance(e, LlamaCppEntry)] == [
        e.weights for e in example_settings.experts if isinstance(e, LlamaCppEntry)
    ]
    assert full.router is not None
    assert example_settings.router is not None
    assert full.router.encoder == example_settings.router.encoder
    assert full.router.general == "qwen2.5-coder-1.5b"
    assert full.router.mapping["code"][0] == "qwen2.5-coder-0.5b"


def test_a_wrong_example_would_be_refused() -> None:
    text = EXAMPLES[0].read_text("utf-8").replace("backend:", "engine:", 1)
    with pytest.raises(InvalidConfig):
        loaded(text)


# The compose file.


def compose_problems(document: dict[str, Any], root: Path) -> list[str]:
    """What is wrong with a compose document, by rules a schema does not know."""
    problems: list[str] = []
    services, volumes = document["services"], set(document.get("volumes") or ())
    for name, service in services.items():
        problems += [f"{name}: {problem}" for problem in _service_problems(service, set(services), volumes, root)]
    return problems


SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "deploy", "entrypoint", "environment", "healthcheck", "image", "init",
    "ports", "profiles", "read_only", "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "user",
    "volumes",
}  # fmt: skip


def _service_problems(service: dict[str, Any], services: set[str], volumes: set[str], root: Path) -> Iterator[str]:
    if unknown := service.keys() - SERVICE_KEYS:
        yield f"unexpected keys {sorted(unknown)}"
    if not re.fullmatch(r"[a-z0-9./-]+:v?\d+(?:\.\d+)+[a-z0-9.-]*", service.get("image", "")):
        yield "the image is not pinned by version"
    for port in service.get("ports", ()):
        if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", str(port)):
            yield f"port {port} is not bound to 127.0.0.1"
    for dependency in service.get("depends_on", {}):
        if dependency not in services:
            yield f"depends on {dependency}, which is no service"
    build = service.get("build")
    if build and not (root / build["context"] / build["dockerfile"]).is_file():
        yield f"is built from {build['dockerfile']}, which does not exist"
    for mount in service.get("volumes", ()):
        yield from _mount_problems(mount, volumes, root)


def _mount_problems(mount: str, volumes: set[str], root: Path) -> Iterator[str]:
    source = mount.split(":", maxsplit=1)[0]
    if not source.startswith("."):
        if source not in volumes:
            yield f"mounts {source}, which is no volume"
        return
    if not (root / source).exists():
        yield f"mounts {source}, which does not exist"
    if not mount.endswith(":ro"):
        yield f"may write to {source}"


@pytest.fixture
def compose() -> dict[str, Any]:
    document = yaml.safe_load(COMPOSE.read_text("utf-8"))
    assert isinstance(document, dict)
    return document


def test_the_compose_file_keeps_the_rules(compose: dict[str, Any]) -> None:
    assert compose_problems(compose, ROOT) == []


@pytest.mark.parametrize(
    ("service", "change", "problem"),
    [
        ("gateway", {"ports": ["8080:8080"]}, "port 8080:8080 is not bound to 127.0.0.1"),
        ("gateway", {"ports": ["0.0.0.0:8080:8080"]}, "port 0.0.0.0:8080:8080 is not bound to 127.0.0.1"),
        ("gateway", {"privileged": True}, "unexpected keys ['privileged']"),
        ("gateway", {"network_mode": "host"}, "unexpected keys ['network_mode']"),
        ("gateway", {"build": {"context": ".", "dockerfile": "Dockerfile"}}, "is built from Dockerfile, which"),
        ("gateway", {"depends_on": {"postgres": {}}}, "depends on postgres, which is no service"),
        ("redis", {"image": "redis:latest"}, "the image is not pinned by version"),
        ("redis", {"image": "redis"}, "the image is not pinned by version"),
        ("redis", {"volumes": ["redis:/data"]}, "mounts redis, which is no volume"),
        ("prometheus", {"volumes": ["./nowhere:/x:ro"]}, "mounts ./nowhere, which does not exist"),
        ("prometheus", {"volumes": ["./deploy:/x"]}, "may write to ./deploy"),
    ],
)
def test_a_broken_compose_file_would_be_found(
    compose: dict[str, Any], service: str, change: dict[str, Any], problem: str
) -> None:
    broken = copy.deepcopy(compose)
    broken["services"][service] |= change
    found = compose_problems(broken, ROOT)
    assert any(f"{service}: {problem}" in line for line in found), found


def test_the_profiles_are_the_documented_ones(compose: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles") for name, service in compose["services"].items()}
    assert profiles == {
        "weights": None,
        "gateway": None,
        "vllm": ["vllm"],
        "redis": ["redis"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }


def test_the_gateway_container_is_confined_and_has_time_to_drain(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    assert int(gateway["user"].split(":")[0]) > 0
    assert "/health/readiness" in " ".join(gateway["healthcheck"]["test"])
    assert float(gateway["stop_grace_period"].removesuffix("s")) > DRAIN_S + 10


def test_the_vllm_example_names_what_the_compose_file_serves(compose: dict[str, Any]) -> None:
    settings = load_settings(ROOT / "examples" / "coe-vllm.yaml")
    remote = [entry.spec() for entry in settings.experts if entry.backend == "openai"]
    assert [spec.options["base_url"] for spec in remote] == ["http://vllm:8000/v1"]
    command = " ".join(compose["services"]["vllm"]["command"])
    assert f"--served-model-name={remote[0].model} " in command
    assert f"--max-model-len={remote[0].context_tokens} " in command
    assert settings.gateway.host == "0.0.0.0"  # noqa: S104 - of a container


def test_compose_itself_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker client with compose here")
    checked = subprocess.run(
        [docker, "compose", "--file", str(COMPOSE), "config", "--quiet"],
        capture_output=True, text=True, check=False, env=os.environ | {"COMPOSE_PROFILES": "vllm,redis,monitoring"},
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_prometheus_scrapes_a_service_that_exists(compose: dict[str, Any]) -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    targets = [t for job in scraped["scrape_configs"] for group in job["static_configs"] for t in group["targets"]]
    for target in targets:
        name, _, port = target.partition(":")
        assert compose["services"][name]["ports"][0].endswith(f":{port}")


# The image and the unit.


def test_the_image_is_pinned_hashed_and_not_root() -> None:
    lines = (ROOT / "deploy/Dockerfile").read_text("utf-8").splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", base) for base in bases), bases
    assert any("--require-hashes" in line and "--only-binary=:all:" in line for line in lines)
    final = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert [line for line in final if line.startswith("USER ")] == ["USER 10001:10001"]
    assert not any(re.search(r"\b(?:gcc|g\+\+|build-essential|cmake)\b", line) for line in final)


def test_all_that_the_image_copies_is_there_and_reaches_the_builder() -> None:
    ignore = (ROOT / "deploy/Dockerfile.dockerignore").read_text("utf-8").splitlines()
    admitted = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert "*" in ignore
    for line in (ROOT / "deploy/Dockerfile").read_text("utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert source in admitted, source


def test_the_wheel_ships_every_package_the_image_needs() -> None:
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "deploy/Dockerfile").read_text("utf-8"), re.MULTILINE)
    packages = re.search(r"^packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert packages is not None
    assert {*copied} - {"examples"} == set(re.findall(r'"(\w+)"', packages[1]))


def test_the_unit_lets_the_gateway_drain() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy/coe-gateway.service", "utf-8")
    service = unit["Service"]
    assert service["KillMode"] == "mixed"
    assert float(service["TimeoutStopSec"]) > DRAIN_S + 10
    assert service["DynamicUser"] == "yes"
    assert service["ProtectSystem"] == "strict"


# The dashboard.


def series() -> dict[str, frozenset[str]]:
    """Every series that a gateway exports, with its labels."""
    metrics = Metrics()
    metrics.export(Admission(0, 0), ResidencyManager({}, scheduler_of((), [0])))
    found: dict[str, frozenset[str]] = {}
    for collector in metrics.collectors():
        labels = frozenset(collector._labelnames)
        for family in collector.describe():
            if family.type == "histogram":
                found |= {family.name + "_bucket": labels | {"le"}}
                found |= {family.name + suffix: labels for suffix in ("_sum", "_count")}
            else:
                found[family.name + ("_total" if family.type == "counter" else "")] = labels
    return found


def query_problems(query: str) -> list[str]:
    """Names of metrics and labels in a query that no gateway exports."""
    known = series()
    names = re.findall(r"\bcoe_\w+", query)
    labels = frozenset().union(*(known.get(name, frozenset()) for name in names)) | {"job", "instance"}
    used = [label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(",")]
    used += re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"', query)
    return [name for name in names if name not in known] + [label for label in used if label not in labels]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.name)
def test_a_dashboard_asks_for_series_and_labels_that_exist(path: Path) -> None:
    panels = json.loads(path.read_text("utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert queries
    assert {query: bad for query in queries if (bad := query_problems(query))} == {}
    legends = [(t["expr"], t["legendFormat"]) for panel in panels for t in panel.get("targets", ())]
    for query, legend in legends:
        for label in re.findall(r"{{(\w+)}}", legend):
            assert re.search(rf"\bby \([^)]*\b{label}\b", query), (legend, query)


def test_the_dashboard_shows_every_metric() -> None:
    shown = "".join(path.read_text("utf-8") for path in DASHBOARDS)
    bases = {re.sub(r"_(?:bucket|sum|count)$", "", name) for name in series()}
    assert [name for name in sorted(bases) if name not in shown] == []


def test_the_queries_of_the_deployment_guide_exist() -> None:
    text = (ROOT / "docs/deploy.md").read_text("utf-8")
    queries = re.findall(r"^\| `([^`]*coe_[^`]*)`", text, re.MULTILINE)
    assert len(queries) >= 4
    assert {query: bad for query in queries if (bad := query_problems(query))} == {}


@pytest.mark.parametrize(
    "query",
    [
        "rate(coe_answers_total[5m])",
        "coe_ttft_seconds",  # a histogram has no series of its own name
        "sum by (model) (rate(coe_requests_total[5m]))",
        'coe_requests_total{code="200"}',
    ],
)
def test_a_query_that_would_show_nothing_is_found(query: str) -> None:
    assert query_problems(query)


# Snippets.


def configurations() -> list[Any]:
    return [
        pytest.param(body, id=f"{path.relative_to(ROOT)}:{i}")
        for path in documents()
        for i, body in enumerate(fences(path, "yaml"))
    ]


@pytest.mark.parametrize("text", configurations())
def test_a_yaml_snippet_is_a_configuration(text: str) -> None:
    assert loaded(text).experts


def test_the_readme_configures_routing_in_fifteen_lines() -> None:
    (text,) = fences(ROOT / "README.md", "yaml")
    assert len(text.splitlines()) <= 15
    assert loaded(text).router is not None


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_snippets_parse(path: Path) -> None:
    for body in fences(path, "python"):
        compile(body, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for body in fences(path, "bash"):
        checked = subprocess.run(["bash", "-n"], input=body, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
    for body in fences(path, "json"):
        json.loads(body)


def test_documented_verbs_and_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    verbs = set(re.findall(r"^## `coe (.+)`$", (ROOT / "docs/reference/cli.md").read_text("utf-8"), re.MULTILINE))
    groups = {verb.split()[0] for verb in verbs}
    for path in documents():
        for body in fences(path, "bash"):
            for target in re.findall(r"^make ([a-z-]+)", body, re.MULTILINE):
                assert target in targets, (path, target)
            for verb in re.findall(r"^coe ([a-z-]+)", body, re.MULTILINE):
                assert verb in groups, (path, verb)


@pytest.fixture
async def stage(example_settings: Settings, encoder_paths: tuple[Path, Path]) -> Callable[[], Any]:
    """A gateway with the example's names and router, whose experts are echoes: the snippets' words are enough."""
    del encoder_paths  # they are there: the router will load them
    assert example_settings.router is not None
    router = example_settings.router.model_dump(mode="json")
    experts = [{"id": entry.id, "backend": "echo"} for entry in example_settings.experts]
    return lambda: serving({"experts": experts, "router": router}, os.environ)


async def run(command: list[str], url: str) -> str:
    here = [part.replace("http://127.0.0.1:8080", url) for part in command]
    process = await asyncio.create_subprocess_exec(
        *here, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.real
@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
async def test_the_python_snippet_runs(stage: Callable[[], Any], name: str) -> None:
    (code,) = fences(ROOT / name, "python")
    async with stage() as served:
        said = await run([sys.executable, "-c", code], served.url)
    assert ("Guernica" if name == "README.md" else "haiku") in said
    if name == "README.md":
        assert said.startswith("smollm2-135m knowledge ")


@pytest.mark.real
async def test_the_curl_of_the_readme_answers_with_the_headers_it_shows(stage: Callable[[], Any]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    (command,) = [body for body in fences(ROOT / "README.md", "bash") if body.startswith("curl")]
    (shown,) = fences(ROOT / "README.md", "http")
    async with stage() as served:
        said = await run(["bash", "-c", command], served.url)
    headers = {line.split(":")[0] for line in said.split("\r\n\r\n")[0].splitlines()[1:]}
    assert {line.split(":")[0] for line in shown.splitlines()[1:]} <= headers
    assert "x-coe-model: qwen2.5-coder-0.5b" in said
    assert "x-coe-category: code" in said


# Links.


def anchors(path: Path) -> set[str]:
    """The anchors that a renderer gives a document's headings."""
    text = FENCE.sub("", path.read_text("utf-8"))
    headings = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    text = FENCE.sub("", path.read_text("utf-8"))
    broken = []
    for link in LINK.findall(text):
        if EXTERNAL.match(link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n[a](page.md#a-page) [b](gone.md) [c](#elsewhere) [d](https://example.org/x)\n")
    assert broken_links(page) == ["gone.md", "#elsewhere"]


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text("utf-8")
    assert [p.name for p in sorted((ROOT / "docs/decisions").glob("*.md")) if f"decisions/{p.name}" not in index] == []
