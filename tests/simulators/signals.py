"""Signals whose handlers raise, as time limits do, and forks."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _thread import LockType, RLock
    from collections.abc import Callable


class Interrupted(BaseException):
    """What the handler raises."""


class InterruptedLock:
    """A lock whose first caller in the main thread is interrupted as soon as it has the lock.

    Python runs handlers in the main thread, also between the return of a call and what follows.
    """

    def __init__(self, lock: LockType | RLock) -> None:
        self._lock = lock
        self._due = True
        self.release = lock.release

    def acquire(self, *arguments: Any, **named: Any) -> bool:
        acquired = self._lock.acquire(*arguments, **named)
        if self._due and threading.current_thread() is threading.main_thread():
            self._due = False
            raise Interrupted
        return acquired


def in_child(work: Callable[[], object]) -> bool:
    """Fork, and return whether the child did the work within five seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        done = False
        try:
            work()
            done = True
        finally:
            os._exit(0 if done else 1)
    return os.waitpid(child, 0)[1] == 0
