"""The running retrieval part of a gateway: its library, its experts, its threads."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from coe_gateway.retrieval.embedders import open_experts, open_reranker
from coe_gateway.retrieval.search import Searcher
from coe_gateway.retrieval.upkeep import Upkeep
from coe_gateway.settings import resolve_secret
from experts.errors import ConfigError
from experts.retrieval.hybrid import HybridSettings
from experts.retrieval.indexes import Space
from experts.retrieval.intake import Intake
from experts.retrieval.library import open_library

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from coe_gateway.retrieval.decision import Experts
    from coe_gateway.retrieval_settings import RetrievalSettings
    from experts.retrieval.library import Library
    from experts.retrieval.rerank import Reranker
    from experts.weights import WeightStore

_T = TypeVar("_T")
_THREADS: Final = 4
_OF_THE_EXTRA: Final = ("faiss", "pypdf", "docx", "python_multipart", "selectolax", "markdown_it", "bm25s", "Stemmer")


@dataclass(slots=True)
class Retrieval:
    """Everything the retrieval routes need."""

    settings: RetrievalSettings
    library: Library
    experts: Experts
    reranker: Reranker
    searcher: Searcher
    upkeep: Upkeep
    executor: ThreadPoolExecutor
    uploading: asyncio.Semaphore

    async def run(self, work: Callable[..., _T], *arguments: object, **more: object) -> _T:
        """Do something that waits for the disk or the processor, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, partial(work, *arguments, **more))


@asynccontextmanager
async def open_retrieval(
    settings: RetrievalSettings, store: WeightStore, environ: Mapping[str, str]
) -> AsyncIterator[Retrieval]:
    """Open the library and take up what waits in it. Raises: ConfigError, SourceUnavailable."""
    require_extra()
    folder = data_dir(settings, environ)
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="retrieval")
    loop = asyncio.get_running_loop()
    try:
        experts = await loop.run_in_executor(executor, open_experts, settings, store)
        reranker = await loop.run_in_executor(executor, open_reranker, settings, store, experts)
        reference = settings.database
        url = None if reference is None else resolve_secret("retrieval.database", reference, environ)
        library = await loop.run_in_executor(executor, open_library, folder, settings.library_rules(), url)
        try:
            retrieval = _assembled(settings, library, (experts, reranker), executor)
            retrieval.upkeep.start()
            try:
                yield retrieval
            finally:
                await loop.run_in_executor(executor, retrieval.upkeep.stop)
                await asyncio.to_thread(executor.shutdown)  # whoever still searches has the library until then
        finally:
            library.close()
    finally:
        executor.shutdown(wait=False)


def _assembled(
    settings: RetrievalSettings, library: Library, models: tuple[Experts, Reranker], executor: ThreadPoolExecutor
) -> Retrieval:
    experts, reranker = models
    bases = {embedder.fingerprint: embedder for embedder in reversed(list(experts.embedders.values()))}
    spaces = [Space(base.fingerprint, base.dimensions) for base in bases.values()]

    def intake(stop: Callable[[], bool]) -> Intake:
        return Intake(library, list(bases.values()), settings.intake_rules(), stop)

    return Retrieval(
        settings=settings,
        library=library,
        experts=experts,
        reranker=reranker,
        searcher=Searcher(library, experts, reranker, HybridSettings(candidates=settings.candidates)),
        upkeep=Upkeep(library, spaces, intake),
        executor=executor,
        uploading=asyncio.Semaphore(settings.limits.max_uploads),
    )


def require_extra() -> None:
    """Raises: ConfigError: what retrieval needs is not installed."""
    missing = [name for name in _OF_THE_EXTRA if find_spec(name) is None]
    if missing:
        problem = f"needs {', '.join(missing)}: pip install 'coe-gateway[retrieval]'"
        raise ConfigError("retrieval", None, problem)


def data_dir(settings: RetrievalSettings, environ: Mapping[str, str]) -> Path:
    """Where files are kept: the configured folder, or the user's data folder."""
    if settings.folder is not None:
        return settings.folder.expanduser()
    home = environ.get("XDG_DATA_HOME") or os.path.join("~", ".local", "share")  # noqa: PTH118 - of a text
    return Path(home).expanduser() / "coe-gateway" / "retrieval"
