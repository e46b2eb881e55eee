"""Who trains: worker processes, each of them kept alive, or this process itself.

A run stays with the worker that it began on. The processes are asyncio's own: the pools of concurrent.futures and
loky give a call to any worker, and lose all of them with one; multiprocessing would import the page into each.
"""

import asyncio
import itertools
import logging
import os
import pickle
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from charts.chart import Chart
from nets import TRAININGS
from runs import turns
from runs.engine import ASIDE, Engine
from runs.turns import Call, Owner, Turns
from runs.worker import LENGTH, packed

ASK_EVERY = 0.25  # seconds
PATIENCE = 30  # seconds that a worker may leave all unanswered before it is taken to hang; a busy machine takes ten
START_PATIENCE = 60  # the same while it starts, which on a busy machine takes long
ASIDE_PATIENCE = 400  # for one call that runs aside; an export of a new architecture may take 300
WORKERS = 2

WARM_FIRST = sorted(TRAININGS, key="regression".__ne__)  # all lessons that train, the page's first one first

MAIN = "trainer"  # the thread of a worker on which nets train
ANYBODY: Owner = ("", 0)

_log = logging.getLogger(__name__)


class LostError(RuntimeError):
    """The worker that a call went to is gone, and what it held is lost."""


class NoWorkerError(LostError):
    """There is no worker to call, and none has come for a minute."""


class Runner(ABC):
    """Where an Engine is called. `runs` counts the runs that stay with it, `active` those of them that train."""

    def __init__(self) -> None:
        self.runs = 0
        self.active = 0

    @abstractmethod
    async def call(self, method: str, *arguments: object, owner: Owner = ANYBODY) -> Any:
        """What the method gives, once it is the owner's turn. Raises what it raises, and LostError."""

    @abstractmethod
    def tell(self, method: str, *arguments: object) -> None:
        """Have the method called, and wait for nothing."""


class Here(Runner):
    """This process: for tests, and wherever no pool was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine()
        # As in a worker. asyncio's own threads are for what takes no time: exports would hold all of them.
        self._threads = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in (MAIN, *ASIDE.values())}

    async def call(self, method: str, *arguments: object, owner: Owner = ANYBODY) -> Any:
        work = getattr(self.engine, method)
        thread = self._threads[ASIDE.get(method, MAIN)]
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)

    def tell(self, method: str, *arguments: object) -> None:
        self._threads[MAIN].submit(getattr(self.engine, method), *arguments)


class Worker(Runner):
    """A process. Its calls come from one event loop; on each of its threads, addresses and their runs take turns."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._calls, self._answers = process, process.stdin, process.stdout
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._turns = {name: Turns(turns.AHEAD if name == MAIN else 0.0) for name in (MAIN, *ASIDE.values())}
        self._deadlines: dict[int, asyncio.TimerHandle] = {}  # of the calls that run aside
        self.alive = True
        self._heard = time.monotonic()  # when it last answered anything
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls) -> "Worker":
        """A worker that answers. Raises LostError for one that does not."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "runs.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            limit=2**20,
        )
        worker = cls(process)
        try:
            await worker.answers(START_PATIENCE)
        except BaseException:
            await worker.end()
            raise
        return worker

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    async def call(self, method: str, *arguments: object, owner: Owner = ANYBODY) -> Any:
        number, future = self._expect(method)
        waiting = self._turns[ASIDE.get(method, MAIN)]
        waiting.put(Call(number, method, owner, packed((number, method, arguments)), future))
        self._send_from(waiting)
        try:
            return await future
        finally:
            future.cancel()
            self._waiting.pop(number, None)

    def _expect(self, method: str) -> "tuple[int, asyncio.Future[Any]]":
        """The number for a call, and the future that gets its answer."""
        if not self.alive:
            raise LostError(f"{method} was asked of a worker that is gone")
        number = next(self._numbers)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        return number, future

    def _send_from(self, waiting: Turns) -> None:
        while self.alive and (call := waiting.take()) is not None:
            # Not drained: a worker that has stopped reading is found out soon, and what is asked meanwhile is small.
            self._calls.write(call.content)
            if call.method in ASIDE:
                # Also for a caller that gives up: others wait for the thread.
                loop = asyncio.get_running_loop()
                self._deadlines[call.number] = loop.call_later(ASIDE_PATIENCE, self._give_up, call)

    def _give_up(self, call: Call) -> None:
        if not call.future.done():
            call.future.set_exception(LostError(f"{call.method} did not end"))
        self.kill(f"{call.method} took more than {ASIDE_PATIENCE} s")

    def delays(self) -> dict[str, float]:
        """For each address that waits for its turn to train, the seconds that it has."""
        return self._turns[MAIN].delays(time.monotonic())

    def tell(self, method: str, *arguments: object) -> None:
        if self.alive:
            self._calls.write(packed((next(self._numbers), method, arguments)))  # nobody waits for this number

    async def answers(self, patience: float) -> None:
        """Wait until all that was asked before is answered. Raises LostError if nothing is for `patience` seconds."""
        start = time.monotonic()
        number, ping = self._expect("ping")
        self._calls.write(packed((number, "ping", ())))  # before all that waits for its turn
        try:
            while not ping.done():
                left = max(start, self._heard) + patience - time.monotonic()  # a long line of calls is no hang
                if left <= 0:
                    self.kill(f"it left everything unanswered for {patience} s")
                    raise LostError("the worker hung")
                await asyncio.wait([ping], timeout=left)
            await ping
        finally:
            ping.cancel()
            self._waiting.pop(number, None)

    async def _listen(self) -> None:
        try:
            while True:
                (length,) = LENGTH.unpack(await self._answers.readexactly(LENGTH.size))
                content = await self._answers.readexactly(length)
                # From the process that this one started.
                number, well, value, seconds = pickle.loads(content)  # noqa: S301
                self._heard = time.monotonic()
                if number in self._deadlines:
                    self._deadlines.pop(number).cancel()
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    if well:
                        future.set_result(value)
                    else:
                        future.set_exception(value)
                for waiting in self._turns.values():
                    waiting.done(number, seconds)
                    self._send_from(waiting)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception:  # noqa: BLE001  # an answer that cannot be read: what comes after it cannot be either
            _log.exception("answer not read pid=%d", self.pid)
        finally:
            self.alive = False
            for deadline in self._deadlines.values():
                deadline.cancel()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(LostError("the worker is gone"))

    def kill(self, why: str) -> None:
        """End it at once; its calls raise LostError."""
        if self.alive:
            _log.error("worker killed pid=%d why=%s", self.pid, why)
            self._end_process()

    def _end_process(self) -> None:
        self.alive = False
        with suppress(ProcessLookupError):  # it has ended meanwhile
            self._process.kill()

    async def gone(self) -> int:
        """Wait until its process has ended, asking all the while whether it hangs; the process's exit code."""
        while self.alive:
            try:
                await self.answers(PATIENCE)
            except LostError:
                break
            await asyncio.wait([self._listening], timeout=ASK_EVERY)
        self._end_process()  # should it have done no more than close its pipe
        return await self._process.wait()

    async def end(self) -> None:
        """End it in good order, and at once if it does not."""
        self.alive = False
        self._calls.close()
        try:
            async with asyncio.timeout(2):
                await self._process.wait()
        except TimeoutError:
            self._end_process()
            await self._process.wait()
        await self._listening


class Pool:
    """Workers, each replaced when it is gone."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: list[Worker] = []
        self._changed = asyncio.Event()
        self._keeping: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Start the workers, and wait for none of them."""
        self._keeping = [asyncio.create_task(self._keep()) for _ in range(self.size)]

    async def close(self) -> None:
        """End them all."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)

    @property
    def workers(self) -> list[Worker]:
        """Those that are alive."""
        return [worker for worker in self._workers if worker.alive]

    async def least_busy(self) -> Worker:
        """The worker with the fewest runs that train, and of these with the fewest runs; waits while there is none.

        Raises NoWorkerError if none comes.
        """
        try:
            async with asyncio.timeout(START_PATIENCE):
                while not self.workers:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise NoWorkerError("no worker has come") from None
        return min(self.workers, key=lambda worker: (worker.active, worker.runs))

    async def _keep(self) -> None:
        while True:
            start = time.monotonic()
            worker = None
            try:
                worker = await Worker.start()
                self._workers.append(worker)
                self._changed.set()
                _log.info("worker started pid=%d seconds=%.1f", worker.pid, time.monotonic() - start)
                warming = asyncio.create_task(_warm(worker))
                code = await worker.gone()
                await warming
                _log.error("worker gone pid=%d exit=%d runs=%d", worker.pid, code, worker.runs)
            except (LostError, OSError):  # the machine may have no process or memory to spare, and will again
                _log.exception("worker did not start")
            finally:
                if worker is not None:
                    self._workers = [each for each in self._workers if each is not worker]
                    await worker.end()
            await asyncio.sleep(max(0.0, start + 1 - time.monotonic()))  # not in a circle, if none can live


async def _warm(worker: Worker) -> None:
    """Have a new worker ready for what its first visitors would wait for, one thing after the other, theirs between."""
    try:
        for key in WARM_FIRST:
            await worker.call("warm", key)
        await worker.call("draw", Chart(()), "en")  # which imports matplotlib
    except LostError:
        return
    except Exception:  # noqa: BLE001  # a lesson of somebody's own that fails: its visitors are told, others are not hit
        _log.exception("warming up failed")


_here = Here()
_pool: Pool | None = None


@asynccontextmanager
async def opened(size: int) -> AsyncIterator[Pool | None]:
    """While within, `runner` gives workers of a pool of that size; with 0, this process."""
    global _pool
    turns.training = turns.Allowance(turns.TRAINING_RATE * max(1, size))
    if size == 0:
        yield None
        return
    _pool = Pool(size)
    _pool.open()
    try:
        yield _pool
    finally:
        pool, _pool = _pool, None
        await pool.close()


async def runner() -> Runner:
    """Where a new run should begin."""
    return _here if _pool is None else await _pool.least_busy()


def workers() -> list[Worker]:
    """The workers that are alive; none where no pool was opened."""
    return [] if _pool is None else _pool.workers


async def call(method: str, *arguments: object) -> Any:
    """What any runner gives; asked of another if the first is lost. For methods that need no run. Raises LostError."""
    owner = turns.address.get(), 0
    try:
        return await (await runner()).call(method, *arguments, owner=owner)
    except LostError:
        return await (await runner()).call(method, *arguments, owner=owner)
