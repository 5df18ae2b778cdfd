"""This gateway with an audit log that records nothing: what auditing costs is the difference.

It exists for the benchmark alone: the product has no such setting. Decisions are taken as ever and
what waits for a record goes on in the next turn of the event loop, as after a write.
"""

import asyncio
from typing import Any

from gateway.cli.main import main
from gateway.relay.recording import Committed, Recorder


class _Unrecorded(Recorder):
    def event(self, *_: Any, **__: Any) -> None:
        pass

    def decision(self, *arguments: Any, **_: Any) -> None:
        self._go_on(arguments[-1])

    def failed(self, *_: Any, **__: Any) -> None:
        pass

    def done(self, *_: Any, **__: Any) -> None:
        pass

    def answered(self, *_: Any, **__: Any) -> None:
        pass

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, then in waiting:
            if then is not None:
                then(None)

    def _go_on(self, then: Committed) -> None:
        self._waiting.append((_NOTHING, then))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self.flush)


_NOTHING: Any = None

if __name__ == "__main__":
    for name in ("event", "decision", "failed", "done", "answered", "flush", "_go_on"):
        setattr(Recorder, name, getattr(_Unrecorded, name))
    main()
