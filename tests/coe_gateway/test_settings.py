"""Configurations: what is read, and how everything wrong is refused with its key, value and line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from coe_gateway.settings import Settings, load_settings, resolve_secret, weights_dir
from experts.errors import ConfigError, InvalidConfig
from experts.types import Feature
from tests.serving import echo

ROUTER = """
router:
  general: parrot
  mapping: {code: [parrot]}
  encoder:
    layers: 6
    model: {filename: m.onnx, sha256: HASH, size_bytes: 1, sources: ["file:///m"]}
    tokenizer: {filename: t.json, sha256: HASH, size_bytes: 1, sources: ["file:///t"]}
""".replace("HASH", "ab" * 32)
CANNED = "  - {id: faq, backend: canned, answers: [{exact: [hi], reply: hello}]}\n"
CANNED_ALONE = "experts:\n  - {{id: faq, backend: canned, answers: [{}]}}\n"
PARROT = "experts:\n  - {id: parrot, backend: echo}\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "coe.yaml"
    path.write_text(textwrap.dedent(text))
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as refused:
        load_settings(write(tmp_path, text))
    return [str(problem) for problem in refused.value.problems]


def test_the_smallest_configuration(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, PARROT))
    assert settings.gateway.port == 8080
    assert settings.router is None
    assert settings.experts[0].spec().features == frozenset()


def test_sizes_are_read_as_people_write_them(tmp_path: Path) -> None:
    text = PARROT + "residency: {device_budget_bytes: 1.5GiB}\ngateway: {max_body_bytes: 1000}\n"
    settings = load_settings(write(tmp_path, text))
    assert settings.residency.device_budget_bytes == 1.5 * 1024**3
    assert settings.gateway.max_body_bytes == 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("experts: []\n", "experts (line 1): "),
        ("gateway: {}\n", "experts: is missing"),
        (PARROT + "gatway: {}\n", "gatway (line 3): is not a known key"),
        (PARROT + "gateway:\n  prot: 80\n", "gateway.prot = 80 (line 4): is not a known key"),
        (PARROT + "gateway:\n  port: 99999\n", "gateway.port = 99999 (line 4): "),
        (PARROT + "gateway:\n  port: eighty\n", "gateway.port = 'eighty' (line 4): "),
        (PARROT + "gateway:\n  max_in_flight: -1\n", "gateway.max_in_flight = -1 (line 4): "),
        (PARROT + "gateway:\n  port: 1\n  port: 2\n", "gateway.port (line 5): is given twice"),
        (PARROT + "residency: {device_budget_bytes: lots}\n", "residency.device_budget_bytes = 'lots' (line 3): "),
        (PARROT + "  - {id: parrot, backend: echo}\n", "experts[1].id = 'parrot' (line 3): is the id of another"),
        ("experts:\n  - {id: auto, backend: echo}\n", "experts[0].id = 'auto' (line 2): "),
        ("experts:\n  - {id: coe/x, backend: echo}\n", "experts[0].id = 'coe/x' (line 2): "),
        ("experts:\n  - {id: 'a b', backend: echo}\n", "experts[0].id = 'a b' (line 2): "),
        ("experts:\n  - {id: a, backend: llama}\n", "experts[0] (line 2): "),
        ("experts:\n  - {id: a}\n", "experts[0] (line 2): "),
        (
            "experts:\n  - {id: a, backend: echo, device: 1}\n",
            "experts[0].device = 1 (line 2): there is a budget for 1",
        ),
        (PARROT + "residency: {classes: {batch: -1}}\n", "residency.classes.batch = -1 (line 3): "),
        ("experts:\n  - {id: a, backend: echo, delay: 1}\n", "experts[0].delay = 1 (line 2): is not a known key"),
        ("experts:\n  - {id: a, backend: echo, features: [fly]}\n", "experts[0].features[0] = 'fly' (line 2): "),
        ("experts:\n  - {id: a, backend: openai, base_url: 'ftp://x'}\n", "experts[0].base_url = 'ftp://x' (line 2): "),
        ("experts:\n  - {id: a, backend: openai, base_url: 'http://x:abc/v1'}\n", "experts[0].base_url = "),
        ("experts:\n  - {id: a, backend: openai, base_url: 'http://u:p@x/v1'}\n", "experts[0].base_url = "),
        ("experts:\n  - {id: a, backend: llama_cpp}\n", "experts[0].weights (line 2): is missing"),
        (
            PARROT + ROUTER + "  max_experts: 2\n",
            "router.max_experts = 2 (line 11): needs top_p",
        ),
        (PARROT + ROUTER + "  top_p: 1.5\n", "router.top_p = 1.5 (line 11): "),
        (
            PARROT + CANNED + ROUTER + "  null_expert: parrot\n",
            "router.null_expert = 'parrot' (line 12): is not an expert with backend canned; known: faq",
        ),
        (CANNED_ALONE.format("{exact: [hi]}"), "experts[0].answers[0].reply (line 2): is missing"),
        (CANNED_ALONE.format("{reply: x}"), "experts[0].answers[0] (line 2): Value error, needs either"),
        (
            CANNED_ALONE.format("{exact: [hi], match: hi, reply: x}"),
            "experts[0].answers[0] (line 2): Value error, need",
        ),
        (
            CANNED_ALONE.format("{exact: ['?!'], reply: x}"),
            "experts[0].answers[0].exact (line 2): Value error, '?!' has",
        ),
        (
            CANNED_ALONE.format("{match: '(hi', reply: x}"),
            "experts[0].answers[0].match = '(hi' (line 2): Value error, is no pattern that can be used: unclosed group",
        ),
        (
            PARROT + ROUTER.replace("general: parrot", "general: owl"),
            "router.general = 'owl' (line 5): is not an expert",
        ),
        (PARROT + ROUTER.replace("[parrot]", "[owl]"), "router.mapping.code = 'owl' (line 6): is not an expert"),
        (PARROT + ROUTER.replace("abab", "zzzz"), "router.encoder.model.sha256 = "),
        (PARROT + ROUTER.replace("code:", "cod:"), "router.mapping.cod (line 6): is not a category; known: code"),
        ("[1, 2]\n", "file = "),
        ("a: [\n", "file = "),
        ("", "file = "),
        ("\x00", "file = "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, text)
    assert any(problem.startswith(expected) for problem in found), found


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, PARROT + "gateway:\n  port: x\n  prot: 1\n  host: [1]\n")
    assert len(found) == 3


def test_a_mistake_in_an_expert_is_told_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "experts:\n  - {id: a, backend: echo, delay: 1}\n")) == 1


def test_a_category_given_twice_is_named(tmp_path: Path) -> None:
    twice = "  categories:\n    - {name: code, examples: [x]}\n    - {name: code, examples: [y]}\n"
    found = problems(tmp_path, PARROT + ROUTER + twice)
    assert found[0].startswith("router.categories[1].name = 'code' (line 13): "), found


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"nowhere\.yaml"):
        load_settings(tmp_path / "nowhere.yaml")


def test_a_secret_in_the_file_is_refused_and_not_shown(tmp_path: Path) -> None:
    for text in (
        PARROT + "gateway:\n  api_keys: [sk-12345]\n",
        "experts:\n  - {id: a, backend: openai, base_url: 'http://x/v1', api_key: sk-12345}\n",
    ):
        found = problems(tmp_path, text)
        assert "os.environ/NAME" in found[0]
        assert "sk-12345" not in "".join(found)


def test_a_secret_that_is_not_set_is_named() -> None:
    assert resolve_secret("gateway.api_keys[0]", "os.environ/KEY", {"KEY": "s"}) == "s"
    assert resolve_secret("gateway.api_keys[0]", "os.environ/KEY", {"KEY": "s\n"}) == "s"
    with pytest.raises(ConfigError, match="no HTTP header may"):
        resolve_secret("gateway.api_keys[0]", "os.environ/KEY", {"KEY": "a\nb"})
    for environ in ({}, {"KEY": ""}):
        with pytest.raises(ConfigError, match=r"gateway\.api_keys\[0\] = 'os.environ/KEY'.*not set"):
            resolve_secret("gateway.api_keys[0]", "os.environ/KEY", environ)


def test_where_weights_are_kept(tmp_path: Path) -> None:
    plain = load_settings(write(tmp_path, PARROT))
    chosen = load_settings(write(tmp_path, PARROT + f"weights_dir: {tmp_path}\n"))
    assert weights_dir(plain, {"XDG_CACHE_HOME": "/c"}) == Path("/c/coe-gateway/weights")
    assert weights_dir(plain, {"COE_WEIGHTS_DIR": "/w", "XDG_CACHE_HOME": "/c"}) == Path("/w")
    assert weights_dir(chosen, {"COE_WEIGHTS_DIR": "/w"}) == tmp_path


LITELLM = """
model_list:
  - model_name: math-expert
    litellm_params: {model: openai/qwen2-72b, api_base: "http://vllm-a:8000/v1", api_key: os.environ/KEY_A}
    model_info: {params_b: 72.7, context_window: 32768, input_cost_per_token: 0.0}
  - model_name: cloud
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/KEY_B, timeout: 30}
router_settings: {timeout: 60}
litellm_settings: {cache: false}
general_settings: {master_key: os.environ/MASTER}
coe:
  residency: {join_window_s: 3}
"""


def test_litellms_shape_is_read(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, LITELLM))
    first, second = (entry.spec() for entry in settings.experts)
    assert (first.id, first.model, first.options["base_url"]) == ("math-expert", "qwen2-72b", "http://vllm-a:8000/v1")
    assert (first.total_params_b, first.context_tokens) == (72.7, 32768)
    assert (second.model, second.options["base_url"]) == ("gpt-4o", "https://api.openai.com/v1")
    assert second.options["idle_timeout_s"] == 30
    assert Feature.TOOLS in first.features
    assert settings.gateway.api_keys == ("os.environ/MASTER",)
    assert settings.gateway.request_timeout_s == 60
    assert settings.residency.join_window_s == 3


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "openai/qwen2-72b",
            "bedrock/qwen2",
            "model_list[0].litellm_params.model = 'bedrock/qwen2' (line 4): needs an",
        ),
        ("timeout: 30", "rpm: 30", "model_list[1].litellm_params.rpm = 30 (line 7): has no counterpart"),
        ("cache: false", "cache: true", "litellm_settings.cache = True (line 9): has no counterpart"),
        ("timeout: 60", "num_retries: 2", "router_settings.num_retries = 2 (line 8): has no counterpart"),
        ("coe:", "nonsense:", "nonsense (line 11): is not a section"),
        ("model_name: cloud", "name: cloud", "model_list[1] (line 6): needs model_name"),
        (
            "model_name: cloud",
            "model_name: math-expert",
            "experts[1].id = 'math-expert' (line 6): is the id of another",
        ),
        ("join_window_s: 3", "join_window_s: soon", "residency.join_window_s = 'soon' (line 12): "),
    ],
)
def test_what_litellm_has_and_we_have_not_is_refused_by_name(tmp_path: Path, old: str, new: str, expected: str) -> None:
    found = problems(tmp_path, LITELLM.replace(old, new))
    assert any(problem.startswith(expected) for problem in found), found


@pytest.mark.parametrize("key", ["preload", "pinned"])
def test_residency_speaks_of_experts_that_are_there(key: str) -> None:
    document = {"experts": [echo("a")], "residency": {key: ["a", "nobody"]}}
    with pytest.raises(ConfigError, match=rf"residency\.{key} = 'nobody': is not an expert; known: a"):
        Settings.model_validate(document)


def test_each_device_has_a_budget_and_experts_may_name_theirs(tmp_path: Path) -> None:
    text = "experts:\n  - {id: a, backend: echo, device: 1}\n  - {id: b, backend: echo}\n"
    text += "residency: {device_budgets_bytes: [1GiB, 2GiB]}\n"
    settings = load_settings(write(tmp_path, text))
    assert settings.residency.budgets_bytes == [2**30, 2**31]
    assert [entry.spec().device for entry in settings.experts] == [1, None]
