"""The inline executor: one job at a time in this process. For debugging, and where starting processes is not possible.

Time and memory limits need a process to kill, so they are not kept here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .base import Executor, Job, Report, Result, perform, reporter


class InlineExecutor(Executor):
    """Runs each job inside `wait`. ``listen`` hears a job's progress while it runs; ``interrupted`` says whether Ctrl-C was pressed."""

    name = "inline"
    slots = 1

    def __init__(self, threads: int = 1) -> None:
        from threadpoolctl import threadpool_limits

        # NumPy's and SciPy's BLAS get as many threads as a worker's, so that inline and process give equal numbers
        self._limits = threadpool_limits(limits=threads)
        self._jobs: deque[Job] = deque()
        self.listen: Callable[[Report], None] = lambda report: None
        self.interrupted: Callable[[], bool] = lambda: True

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def wait(self, timeout: float) -> list[Result | Report]:
        if not self._jobs:
            return []
        job = self._jobs.popleft()
        return [perform(job, reporter(job, lambda report: self.listen(report)), lambda: self.interrupted())]

    def close(self) -> None:
        self._jobs.clear()
        self._limits.restore_original_limits()
