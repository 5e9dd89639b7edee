"""The backend of joblib in which the fits of a search meet."""

from __future__ import annotations

from functools import partial

from joblib.parallel import ParallelBackendBase, SequentialBackend

from skae._training.side_by_side.meeting import Tasks


class Together(ParallelBackendBase):
    """Runs the calls of a `joblib.Parallel` as `Tasks`, in this process.

    Results are asked for one by one, in the order of the calls: nothing runs before the first.
    """

    supports_retrieve_callback = False
    uses_threads = True
    supports_sharedmem = False  # forests and others that ask for it have threads of their own

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.tasks = Tasks()

    def effective_n_jobs(self, n_jobs):
        """Return how many calls are to be handed over before results are asked for."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return 32

    def submit(self, func, callback=None):
        """Return the task of a call; joblib hands over more calls when its callback is called."""
        return self.tasks.add(func, callback)

    def apply_async(self, func, callback=None):
        """Do what `submit` does for a joblib before 1.5, which asks the task for its result."""
        task = self.submit(func, callback)
        task.get = partial(self.retrieve_result, task)
        return task

    def retrieve_result(self, out, timeout=None):
        """Return what a call returned, or raise what it raised."""
        self.tasks.run_until(out)
        if out.error is not None:
            raise out.error
        return out.result

    def abort_everything(self, ensure_ready=True):
        """Stop all calls, where one has failed and its error goes to the caller."""
        self.tasks.stop()

    def terminate(self):
        """Leave nothing behind."""
        self.tasks.stop()

    def get_nested_backend(self):
        """Return what runs the calls of a `joblib.Parallel` inside a task: the task itself."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None
