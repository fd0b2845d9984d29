"""An expert on vLLM, in an engine of its own: DEVICE is awake, HOST is asleep, DISK is no process.

Starting an engine takes a minute, waking one a moment. So staging is what starts it: `stage` brings the engine up, has
it pack its weights into host memory, and puts it to sleep. `start` wakes it, `stop` puts it to sleep again. What was
never staged is launched by `start` and ended by `stop`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from experts.backends.host_memory import available_bytes
from experts.backends.openai_http import HttpCall, OpenAiHttpBackend
from experts.backends.vllm_control import EngineProblem, VerbRefused
from experts.backends.vllm_engine import VllmEngine
from experts.errors import ExpertStartFailed, ExpertUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    import aiohttp

    from experts.backends.engine_records import EngineRecords
    from experts.backends.vllm_command import EngineCommand
    from experts.backends.vllm_control import Canary, EngineControl, Report
    from experts.types import ExpertCall, ExpertSpec

_log = logging.getLogger(__name__)
_PACK_S: Final = 600.0
_MOVE_S: Final = 60.0
_DRAIN_S: Final = 30.0  # for requests that nobody waits for any more to end
_CANARY_S: Final = 120.0  # the first answer of an engine prepares much that later ones find


class VllmBackend:
    """One expert on vLLM. A staged copy of its weights lives in its engine, and ends with it.

    A crash takes the copy along; the next `start` launches an engine and has it pack anew. extension: the folder that
    goes on the engine's path. records: where engines are noted, to be found if this process dies.
    """

    def __init__(
        self,
        spec: ExpertSpec,
        session: aiohttp.ClientSession,
        command: EngineCommand,
        extension: Path,
        records: EngineRecords,
    ) -> None:
        self._spec = spec
        self._session = session
        self._command = command
        self._extension = extension
        self._records = records
        self._engine: VllmEngine | None = None
        self._control: EngineControl | None = None
        self._http: OpenAiHttpBackend | None = None  # there while it is awake
        self._reference: Canary | None = None
        self._staged = False
        self._asleep = False
        self._staging: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._notify: Callable[[str], None] = lambda _: None

    @property
    def spec(self) -> ExpertSpec:
        """What the configuration says of this expert."""
        return self._spec

    @property
    def pid(self) -> int | None:
        """The process id of its engine while that runs; the engine's other processes are of the same group."""
        return self._engine.pid if self._engine is not None else None

    def on_exit(self, notify: Callable[[str], None]) -> None:
        """Call `notify(why)` should the engine end by itself while it is awake."""
        self._notify = notify

    def call(self, call: ExpertCall) -> HttpCall:
        """Send one request. Raises: ExpertUnreachable; on entry: ExpertRefused, ExpertUnreachable."""
        if self._http is None:
            raise ExpertUnreachable(self._spec.id, "its engine is not awake")
        return self._http.call(call)

    async def start(self) -> None:
        """Wake a staged engine, or launch one. Raises: ExpertStartFailed."""
        async with self._one_at_a_time:
            if self._http is not None:
                return
            if self.pid is None:
                await self._launch()
                await self._or_end(self._pack() if self._staged else self._release())
            else:
                await self._wake()
            self._open()

    async def stop(self) -> None:
        """Put a staged engine to sleep, end another; returns when the memory is back."""
        self._http = None
        async with self._one_at_a_time:
            self._http = None  # it may have been starting
            if self.pid is None or not self._staged:
                await self._end()
            if self._engine is None or self._asleep:
                return
            try:
                await self._sleep()
            except EngineProblem as problem:
                _log.warning("expert %s cannot be put to sleep and is ended: %s", self._spec.id, problem)
                await self._end()

    async def stage(self) -> None:
        """Have an engine hold its weights in host memory, asleep unless it was awake. Raises: ExpertStartFailed."""
        async with self._one_at_a_time:
            holds = self._staged and self.pid is not None  # an engine that went down has taken its copy along
            if holds or not self._spec.host_bytes:
                return
            self._staging = asyncio.ensure_future(self._stage())
            try:
                await self._staging
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                raise ExpertStartFailed(self._spec.id, "staging it was given up meanwhile") from None
            finally:
                self._staging = None
            self._staged = True

    async def unstage(self) -> None:
        """Give the host memory back: a sleeping engine ends, one that is awake goes on; staging is given up."""
        if self._staging is not None:
            self._staging.cancel()
        async with self._one_at_a_time:
            if not self._staged:
                return
            self._staged = False
            if self._http is None:
                await self._end()
                return
            await self._release()

    async def load_adapter(self, name: str, folder: Path, within_s: float) -> None:
        """Have the engine, which is awake, answer as `name` with a LoRA adapter. Raises: EngineProblem."""
        await self._known_control.load_adapter(name, folder, within_s)

    async def unload_adapter(self, name: str, within_s: float) -> None:
        """Have it forget an adapter. Raises: EngineProblem."""
        await self._known_control.unload_adapter(name, within_s)

    async def reports(self) -> list[Report]:
        """What each worker of its engine says of its memory. Raises: EngineProblem."""
        return await self._verb("coe_report", _MOVE_S)

    async def _stage(self) -> None:
        if self._http is not None:
            await self._pack()
            return
        await self._launch()
        await self._or_end(self._pack())
        try:
            await self._sleep()
        except BaseException as error:
            await self._end()
            if isinstance(error, EngineProblem):
                raise ExpertStartFailed(self._spec.id, f"it cannot be put to sleep: {error}") from error
            raise

    async def _launch(self) -> None:
        await self._end()
        need_bytes = 0 if self._command.gpus else self._spec.device_bytes
        if need_bytes > (free_bytes := available_bytes()):  # or the system would end somebody for it
            problem = f"its engine takes {need_bytes} bytes of memory, {free_bytes} are available"
            raise ExpertStartFailed(self._spec.id, problem)
        await asyncio.to_thread(self._records.sweep)
        engine = VllmEngine(self._spec.id, self._command, self._extension, self._records, self._went_down)
        self._engine = engine
        self._control = await engine.start(self._session)

    async def _pack(self) -> None:
        """Hold the weights in host memory, or hold nothing. Raises: ExpertStartFailed."""
        try:
            if self._reference is None:
                self._reference = await self._known_control.canary(_CANARY_S)
            reports = await self._verb("coe_pack", _PACK_S)
            while any(report["packing"] for report in reports):  # it packs in slices, so that requests have their turn
                reports = await self._verb("coe_pack", _PACK_S)
            self._check_booked(reports)
        except BaseException as error:
            await self._release()
            if isinstance(error, EngineProblem):
                problem = f"its weights cannot be staged: {error}"
                raise ExpertStartFailed(self._spec.id, problem) from error
            raise

    def _check_booked(self, reports: list[Report]) -> None:
        packed_bytes = sum(int(report["packed_bytes"]) for report in reports)
        if packed_bytes > self._spec.host_bytes:
            raise EngineProblem(f"they take {packed_bytes} bytes, host_bytes books {self._spec.host_bytes}")

    async def _sleep(self) -> None:
        """Raises: EngineProblem."""
        await self._known_control.pause(_DRAIN_S)
        await self._verb("coe_sleep", _MOVE_S)
        self._asleep = True

    async def _wake(self) -> None:
        """Bring the weights back and see that they are right. What is refused leaves it asleep; what fails ends it.

        Raises: ExpertStartFailed.
        """
        self._asleep = False  # from here on it may be awake, whatever happens to us
        try:
            await self._verb("coe_wake", _MOVE_S)
        except VerbRefused as problem:
            self._asleep = True
            raise ExpertStartFailed(self._spec.id, f"it cannot be woken: {problem}") from problem
        except EngineProblem as problem:
            await self._end()
            raise ExpertStartFailed(self._spec.id, f"it cannot be woken: {problem}") from problem
        await self._or_end(self._check())

    async def _check(self) -> None:
        control = self._known_control
        try:
            await control.forget_prefixes()
            await control.resume()
            if self._reference is not None:
                self._reference.check(await control.canary(_CANARY_S))
        except EngineProblem as problem:
            raise ExpertStartFailed(self._spec.id, f"it woke up wrong: {problem}") from problem

    async def _or_end(self, step: Coroutine[None, None, None]) -> None:
        try:
            await step
        except BaseException:
            await self._end()
            raise

    async def _release(self) -> None:
        """Have its workers hold nothing in host memory; they may have kept some while they loaded."""
        if not self._spec.host_bytes:
            return
        try:
            await self._verb("coe_release", _MOVE_S)
        except EngineProblem as problem:
            _log.error("expert %s keeps a staged copy: %s", self._spec.id, problem)

    async def _end(self) -> None:
        self._http = self._control = None
        self._asleep = False
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.end()

    def _open(self) -> None:
        control = self._known_control
        self._http = OpenAiHttpBackend(self._spec, self._session, control.url, headers=control.headers)

    async def _verb(self, name: str, within_s: float) -> list[Report]:
        return await self._known_control.verb(name, within_s)

    @property
    def _known_control(self) -> EngineControl:
        if self._control is None:
            raise EngineProblem("its engine is not running")
        return self._control

    def _went_down(self, why: str) -> None:
        awake, self._http = self._http is not None, None
        _log.error("expert %s: %s", self._spec.id, why)
        if awake:
            self._notify(why)
