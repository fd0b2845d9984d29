"""What runs inside vLLM's processes, which may be those of an environment that knows nothing of this package.

The folder of this file goes on PYTHONPATH there, and holds one package only, `coe_vllm`. It imports the standard
library, torch, vLLM and itself: nothing else of ours, and nothing that Python 3.10 lacks. Loaded with
`--worker-extension-cls coe_vllm.extension.WorkerExtension`.
"""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
