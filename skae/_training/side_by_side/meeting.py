"""Tasks that halt where a training begins, until others have come as far.

Each task has a thread of its own, and exactly one thread runs at any time: who is to run is told,
and who told waits. So nothing is computed at the same time as anything else, what happens depends
on the order of the tasks alone, and no lock is needed.
"""

from __future__ import annotations

import contextvars
import ctypes
import itertools
import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

from skae._training.side_by_side.run import Run, can_be_stacked, kind_of
from skae._warnings import calling_line, thread_called_at

# Models of a pass, tasks that are under way, and cells of training rows that tasks hold before
# no more are begun (the rows of a search are copied for each of its fits).
_MOST_MODELS, _MOST, _MOST_CELLS = 10, 16, 2**26

# Seconds after which who waits for a task looks for an interrupt.
_A_WAIT = 0.2

_here = threading.local()


def trained_with_others(run: Run) -> bool:
    """Train beside others and return True, where this is a task of `Tasks`, and it can be done.

    Raises
    ------
    NonFiniteLossError
        The loss or a weight stopped being finite.
    """
    task = getattr(_here, "task", None)
    if task is None or not can_be_stacked(run):
        return False
    task.meet(run)
    return True


class Task(threading.Thread):
    """A call that may halt.

    Parameters
    ----------
    call : callable
        Without arguments.
    done : callable or None
        Called with the task by who runs the tasks, once the call has ended.
    """

    def __init__(self, call: Callable[[], Any], done: Callable[[Task], None] | None):
        super().__init__(name="skae.together", daemon=True)
        self.call, self.done = call, done
        self.context = contextvars.copy_context()
        self.context.run(thread_called_at.set, calling_line())
        self.go, self.halted = threading.Semaphore(0), threading.Semaphore(0)
        self.halted_at: Run | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_over = self.is_stopped = False
        self.get: Callable[..., Any] | None = None  # see `Together.apply_async`

    def run(self) -> None:
        """Make the call, when told to for the first time."""
        self.go.acquire()
        _here.task = self
        try:
            if not self.is_stopped:
                self.result = self.context.run(self.call)
        except BaseException as error:  # a task of joblib has it for its result
            self.error = error
        finally:
            self.is_over = True
            self.halted.release()

    def resume(self) -> None:
        """Let the call go on until it halts or ends; called by another thread, which waits."""
        if not self.is_alive():
            self.start()
        self.halted_at = None
        with warnings.catch_warnings():  # the filters here are not those of the call
            self.go.release()
            # Not for ever: a signal that comes as the wait begins is seen when it ends.
            while not self.halted.acquire(timeout=_A_WAIT):
                pass

    def meet(self, run: Run) -> None:
        """Halt until a training is done; called by the call itself."""
        self.halted_at = run
        with warnings.catch_warnings():  # come back to: others have filters of their own
            self.halted.release()
            self.go.acquire()
        if self.is_stopped:
            raise KeyboardInterrupt
        if run.error is not None:
            raise run.error

    def stop(self) -> None:
        """Let the call end by an interrupt, wherever it is, and wait for that."""
        if not self.is_alive():
            return
        self.is_stopped = True
        if self.halted_at is None:  # this thread was interrupted while it waited for that one
            _interrupt(self)
        with warnings.catch_warnings():
            self.go.release()
            self.join()


def _interrupt(thread: threading.Thread) -> None:
    """Raise an interrupt in a thread, as Python does for Ctrl-C in the main one alone."""
    ident, kind = ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, kind)


class Tasks:
    """Runs calls, and trains what they begin to train in as few passes as can be."""

    def __init__(self):
        self.waiting: deque[Task] = deque()
        self.under_way: list[Task] = []
        self.recorded: dict = {}  # see `train_side_by_side`

    def add(self, call: Callable[[], Any], done: Callable[[Task], None] | None) -> Task:
        """Return a task that is yet to begin."""
        task = Task(call, done)
        self.waiting.append(task)
        return task

    def run_until(self, task: Task) -> None:
        """Run tasks until one is over; all are stopped where this is interrupted."""
        try:
            with warnings.catch_warnings():  # what torch loads for a first pass adds filters
                while not task.is_over:
                    self._begin()
                    if not task.is_over:
                        self._train()
        except BaseException:  # Ctrl-C too
            self.stop()
            raise

    def stop(self) -> None:
        """Let all tasks end at once."""
        self.waiting.clear()
        tasks, self.under_way = self.under_way, []
        for task in tasks:
            task.stop()

    def _begin(self) -> None:
        """Begin tasks until enough of them halt."""
        while self.waiting and len(self.under_way) < _MOST and self._n_cells() < _MOST_CELLS:
            task = self.waiting.popleft()
            self.under_way.append(task)
            self._go_on(task)

    def _n_cells(self) -> int:
        runs = [task.halted_at for task in self.under_way]
        return sum(len(run.rows) * run.model.n_features for run in runs if run is not None)

    def _go_on(self, task: Task) -> None:
        task.resume()
        if task.is_over:
            task.join()
            self.under_way.remove(task)
            if task.done is not None:
                task.done(task)

    def _train(self) -> None:
        """Train the models of which there are most of a kind, and let their tasks go on."""
        groups: dict[tuple, list[Task]] = {}
        for task in self.under_way:
            if task.halted_at is not None:
                groups.setdefault(kind_of(task.halted_at), []).append(task)
        group = max(groups.values(), key=len)  # the first of those that are as large
        for runs in _passes([task.halted_at for task in group if task.halted_at is not None]):
            self._pass(runs)
        for task in group:
            self._go_on(task)

    def _pass(self, runs: list[Run]) -> None:
        # Late, as torch.func is: see `losses.py`.
        from skae._training.side_by_side.loop import train_side_by_side

        try:
            train_side_by_side(runs, self.recorded)
        except Exception as error:  # of all of them, for it was in none
            for run in runs:
                run.error = run.error or _of_all(error)


def _passes(runs: list[Run]) -> list[list[Run]]:
    """Return the models of each pass: of like sizes, so that little is padded."""
    runs = sorted(runs, key=lambda run: run.n_components)
    passes: list[list[Run]] = [[]]
    for _, of_size in itertools.groupby(runs, key=lambda run: run.n_components):
        alike = list(of_size)
        if passes[-1] and len(passes[-1]) + len(alike) > _MOST_MODELS:
            passes.append([])
        while len(passes[-1]) + len(alike) > _MOST_MODELS:
            passes[-1:] = [alike[:_MOST_MODELS], []]
            del alike[:_MOST_MODELS]
        passes[-1] += alike
    return [one for one in passes if one]


def _of_all(error: Exception) -> RuntimeError:
    """Return an error for one of the trainings that all failed."""
    found = RuntimeError(
        f"Training beside others failed: {type(error).__name__}: {error}. Search without "
        "skae.together() to train them one by one."
    )
    found.__cause__ = error
    return found
