"""A few threads that wait for the disk.

Less than Twisted's ThreadPool, and so a hop costs half: one queue, nothing but calls.  A call must not raise; what
it has to say goes to the reactor by callFromThread.  The threads end with the process whatever they are at: nobody has
been promised what is still under way then.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class WorkerThreads:
    """``most`` threads; each is started when there is work for it."""

    def __init__(self, most: int = 4, name: str = "spool") -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def callInThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        """To be called from one thread only, the reactor's."""
        if self._stopped:
            raise RuntimeError("threads have been stopped")
        self._work.put((function, arguments))
        if len(self._threads) < self._most and not self._work.empty():
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, patience: float = 10.0) -> None:
        """Let what has been asked for be done, and end."""
        self._stopped = True
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(patience)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            function, arguments = work
            try:
                function(*arguments)
            except BaseException:
                traceback.print_exc()
            del work, function, arguments
