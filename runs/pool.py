"""The pool of worker processes that train, an in-process replacement, and a typed client for calls.

A run stays on the worker that created it. asyncio starts the processes: the pools of concurrent.futures and
loky send a call to any worker and break as a whole when one dies; multiprocessing would import the page into each.
"""

import asyncio
import itertools
import logging
import os
import pickle
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from charts.chart import Chart
from nets import TRAININGS
from runs import turns
from runs.engine import BACKGROUND_METHODS, Engine
from runs.turns import Call, Owner, Turns
from runs.worker import LENGTH, packed

PING_INTERVAL = 0.25  # seconds
ANSWER_TIMEOUT = 30  # seconds without any answer after which a worker counts as hung; up to ten on a busy machine
START_TIMEOUT = 60  # the same during startup, which is slow on a busy machine
BACKGROUND_TIMEOUT = 400  # of one background call; an export of a new architecture may take 300

WARM_UP_ORDER = sorted(TRAININGS, key="regression".__ne__)  # lessons that train, the page's initial tab first

MAIN = "trainer"  # the thread of a worker that trains
NO_OWNER: Owner = ("", 0)  # of calls outside of requests

THREADS = (MAIN, *dict.fromkeys(BACKGROUND_METHODS.values()))

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)


class LostError(RuntimeError):
    """The worker of a call has died, and its runs are lost."""


class NoWorkerError(LostError):
    """No worker has started within a minute."""


Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]  # positional and keyword arguments


class Runner(ABC):
    """Executes the methods of an Engine. `runs` counts its runs, `active` those that train now."""

    def __init__(self) -> None:
        self.runs = 0
        self.active = 0

    @abstractmethod
    async def execute(self, method: str, arguments: Arguments, owner: Owner) -> Any:
        """Result of an Engine method, once it is the owner's turn. Raises its exceptions, and LostError."""

    @abstractmethod
    def execute_later(self, method: str, arguments: Arguments) -> None:
        """Execute an Engine method without waiting for it or its result."""


class Client:
    """Typed calls of Engine methods on one runner: `await client.call(Engine.frame, number)`.

    The processor time is charged to `owner`, an address and the number of a run.
    """

    def __init__(self, runner: Runner, owner: Owner = NO_OWNER) -> None:
        self.runner = runner
        self.owner = owner

    async def call(self, method: Callable[Concatenate[Engine, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Result of the method, once it is the owner's turn. Raises its exceptions, and LostError."""
        result: T = await self.runner.execute(method.__name__, (args, kwargs), self.owner)
        return result

    def send(self, method: Callable[Concatenate[Engine, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call the method without waiting for it."""
        self.runner.execute_later(method.__name__, (args, kwargs))


class InProcessRunner(Runner):
    """Executes calls in this process; used in tests and while no pool is open."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine()
        # The same threads as in a worker: exports would block all of asyncio's few default threads.
        self._threads = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in THREADS}

    async def execute(self, method: str, arguments: Arguments, owner: Owner) -> Any:
        args, kwargs = arguments
        work = partial(getattr(self.engine, method), *args, **kwargs)
        thread = self._threads[BACKGROUND_METHODS.get(method, MAIN)]
        return await asyncio.get_running_loop().run_in_executor(thread, work)

    def execute_later(self, method: str, arguments: Arguments) -> None:
        args, kwargs = arguments
        self._threads[MAIN].submit(getattr(self.engine, method), *args, **kwargs)


class Worker(Runner):
    """A worker process. All calls come from one event loop; each of its threads has a fair queue of calls."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._calls, self._answers = process, process.stdin, process.stdout
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._queues = {name: Turns(turns.AHEAD if name == MAIN else 0.0) for name in THREADS}
        self._deadlines: dict[int, asyncio.TimerHandle] = {}  # of background calls
        self.alive = True
        self._last_answer = time.monotonic()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls) -> "Worker":
        """A started worker. Raises LostError if it does not answer."""
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
            await worker.ping(START_TIMEOUT)
        except BaseException:
            await worker.end()
            raise
        return worker

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def execute(self, method: str, arguments: Arguments, owner: Owner) -> Any:
        number, future = self._expect(method)
        queue = self._queues[BACKGROUND_METHODS.get(method, MAIN)]
        try:
            queue.put(Call(number, method, owner, packed((number, method, arguments)), future))
        except BaseException:  # arguments that cannot be pickled
            del self._waiting[number]
            raise
        self._send_from(queue)
        try:
            return await future
        finally:
            future.cancel()
            self._waiting.pop(number, None)

    def _expect(self, method: str) -> "tuple[int, asyncio.Future[Any]]":
        """The number of a new call, and the future that gets its answer."""
        if not self.alive:
            raise LostError(f"{method} was called on a dead worker")
        number = next(self._numbers)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        return number, future

    def _send_from(self, queue: Turns) -> None:
        while self.alive and (call := queue.take()) is not None:
            # No drain(): a worker that does not read is soon killed as hung, and the calls until then are small.
            self._calls.write(call.content)
            if call.method in BACKGROUND_METHODS:
                # Stays if the caller gives up: other calls wait for the thread.
                loop = asyncio.get_running_loop()
                self._deadlines[call.number] = loop.call_later(BACKGROUND_TIMEOUT, self._give_up, call)

    def _give_up(self, call: Call) -> None:
        if not call.future.done():
            call.future.set_exception(LostError(f"{call.method} did not end"))
        self.kill(f"{call.method} took more than {BACKGROUND_TIMEOUT} s")

    def delays(self) -> dict[str, float]:
        """Seconds that each address has waited for the thread that trains."""
        return self._queues[MAIN].delays(time.monotonic())

    def execute_later(self, method: str, arguments: Arguments) -> None:
        if self.alive:
            self._calls.write(packed((next(self._numbers), method, arguments)))  # no future waits for this number

    async def ping(self, patience: float) -> None:
        """Wait until all earlier calls are answered. Raises LostError after `patience` seconds without any answer."""
        start = time.monotonic()
        number, pong = self._expect("ping")
        self._calls.write(packed((number, Engine.ping.__name__, ((), {}))))  # ahead of calls that wait for their turn
        try:
            while not pong.done():
                # From the last answer, since a long queue of calls is not a hang.
                left = max(start, self._last_answer) + patience - time.monotonic()
                if left <= 0:
                    self.kill(f"no answer for {patience} s")
                    raise LostError("the worker hung")
                await asyncio.wait([pong], timeout=left)
            await pong
        finally:
            pong.cancel()
            self._waiting.pop(number, None)

    async def _listen(self) -> None:
        try:
            while True:
                (length,) = LENGTH.unpack(await self._answers.readexactly(LENGTH.size))
                content = await self._answers.readexactly(length)
                # Written by our own child process.
                number, succeeded, value, seconds = pickle.loads(content)  # noqa: S301
                self._last_answer = time.monotonic()
                if number in self._deadlines:
                    self._deadlines.pop(number).cancel()
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    if succeeded:
                        future.set_result(value)
                    else:
                        future.set_exception(value)
                for queue in self._queues.values():
                    queue.done(number, seconds)
                    self._send_from(queue)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception:  # noqa: BLE001  # the pipe is unusable after an unreadable answer
            _log.exception("answer not read pid=%d", self.pid)
        finally:
            self.alive = False
            for deadline in self._deadlines.values():
                deadline.cancel()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(LostError("the worker has died"))

    def kill(self, why: str) -> None:
        """Kill the process; pending calls raise LostError."""
        if self.alive:
            _log.error("worker killed pid=%d why=%s", self.pid, why)
            self._end_process()

    def _end_process(self) -> None:
        self.alive = False
        with suppress(ProcessLookupError):  # it has exited
            self._process.kill()

    async def supervise(self) -> int:
        """Wait until the process exits, kill it if it hangs, and return the exit code."""
        while self.alive:
            try:
                await self.ping(ANSWER_TIMEOUT)
            except LostError:
                break
            await asyncio.wait([self._listening], timeout=PING_INTERVAL)
        self._end_process()  # it may have closed its pipe without exiting
        return await self._process.wait()

    async def end(self) -> None:
        """Ask the process to exit, and kill it if it does not."""
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
    """A fixed number of workers; a dead worker is replaced."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: list[Worker] = []
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Start the workers, without waiting for them."""
        self._tasks = [asyncio.create_task(self._keep_one_alive()) for _ in range(self.size)]

    async def close(self) -> None:
        """End all workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def workers(self) -> list[Worker]:
        """The workers that are alive."""
        return [worker for worker in self._workers if worker.alive]

    async def least_busy(self) -> Worker:
        """The worker with the fewest runs in training, then with the fewest runs; waits for one to start.

        Raises NoWorkerError if none does.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not self.workers:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise NoWorkerError("no worker has started") from None
        return min(self.workers, key=lambda worker: (worker.active, worker.runs))

    async def _keep_one_alive(self) -> None:
        while True:
            start = time.monotonic()
            worker = None
            try:
                worker = await Worker.start()
                self._workers.append(worker)
                self._changed.set()
                _log.info("worker started pid=%d seconds=%.1f", worker.pid, time.monotonic() - start)
                warming = asyncio.create_task(_warm(worker))
                code = await worker.supervise()
                await warming
                _log.error("worker died pid=%d exit=%d runs=%d", worker.pid, code, worker.runs)
            except (LostError, OSError):  # the machine may be short of processes or memory for a while
                _log.exception("worker did not start")
            finally:
                if worker is not None:
                    self._workers = [each for each in self._workers if each is not worker]
                    await worker.end()
            await asyncio.sleep(max(0.0, start + 1 - time.monotonic()))  # no busy loop if workers die at once


async def _warm(worker: Worker) -> None:
    """Do a new worker's one-time work in several calls, so that visitors' calls can run between them."""
    client = Client(worker)
    try:
        for key in WARM_UP_ORDER:
            await client.call(Engine.warm, key)
        await client.call(Engine.draw, Chart(()), "en")  # imports matplotlib
    except LostError:
        return
    except Exception:  # noqa: BLE001  # a lesson that fails shows its error on its own tab
        _log.exception("warm-up failed")


_in_process = InProcessRunner()
_pool: Pool | None = None


@asynccontextmanager
async def opened(size: int) -> AsyncIterator[Pool | None]:
    """Open a pool of that size for `runner`; with size 0, runs train in this process."""
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
    """The runner for a new run."""
    return _in_process if _pool is None else await _pool.least_busy()


def workers() -> list[Worker]:
    """The workers that are alive; none while no pool is open."""
    return [] if _pool is None else _pool.workers


async def call(method: Callable[Concatenate[Engine, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Result of an Engine method that needs no run, on any runner; retried once if a worker dies. Raises LostError."""
    owner = turns.address.get(), 0
    try:
        return await Client(await runner(), owner).call(method, *args, **kwargs)
    except LostError:
        return await Client(await runner(), owner).call(method, *args, **kwargs)
