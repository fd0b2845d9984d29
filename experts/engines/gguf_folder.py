"""A GGUF file as the folder that vLLM and its model library read: made once, by an engine's environment."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from experts.engines.environment import run_in
from experts.errors import EngineInstallFailed

if TYPE_CHECKING:
    from experts.engines.environment import EngineEnvironments
    from experts.engines.recipe import EngineRecipe
    from experts.types import WeightsSpec

_KEY_CHARS: Final = 12
_SCRIPT: Final = """
import sys
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer

gguf, folder = Path(sys.argv[1]), sys.argv[2]
model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="bfloat16")
model.hf_quantizer, model.is_quantized = None, False  # what was unpacked is not quantized any more
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.save_pretrained(folder)
AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
"""


def folder_of(environments: EngineEnvironments, weights: WeightsSpec) -> Path:
    """Where the folder is, or will be."""
    return environments.root / "models" / f"{weights.sha256[:_KEY_CHARS]}-{Path(weights.filename).stem}"


def make_folder(environments: EngineEnvironments, recipe: EngineRecipe, weights: WeightsSpec, gguf: Path) -> Path:
    """Make the folder unless it is there, in bfloat16. gguf: the file, pulled before. Blocks for seconds.

    Raises: EngineInstallFailed: the engine is not installed, or cannot read the file.
    """
    folder = folder_of(environments, weights)
    if folder.is_dir():
        return folder
    if not environments.has(recipe):
        raise EngineInstallFailed(f"{recipe.name} is not installed; `coe engines install {recipe.name}`")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as made:
        complete = Path(made) / folder.name
        run_in(environments.python_of(recipe), _SCRIPT, [str(gguf), str(complete)], {"HF_HUB_OFFLINE": "1"})
        if not folder.is_dir():  # another may have made it meanwhile
            complete.rename(folder)
    return folder
