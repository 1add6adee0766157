"""Chariot: a distributed cache whose local hits are read in place, from shared memory.

    import chariot

    with chariot.Client("127.0.0.1:31501") as client:
        client.set("answer", b"42", ttl=60)
        client.get("answer")                       # b"42"; None is a miss
        with client.view("answer") as view:        # no copy
            memoryview(view)[:1].tobytes()

``chariot.AsyncClient`` is the same for asyncio. The packages ``datasystem`` and ``yr.datasystem``
are for programs written for chariot-ds 0.1.6 and its successor.
"""

from chariot._native import Client, Error, View, WriteBuffer, __version__

__all__ = ["AsyncClient", "Client", "Error", "View", "WriteBuffer", "__version__"]


def __getattr__(name):
    # asyncio takes longer to import than all of this package.
    if name == "AsyncClient":
        from chariot._asyncio import AsyncClient

        globals()[name] = AsyncClient
        return AsyncClient
    raise AttributeError("module 'chariot' has no attribute %r" % name)
