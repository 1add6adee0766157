"""The asyncio face: the calls of ``Client``, awaited.

A call runs on a thread of the client's own small pool, so that the loop never waits for the
daemon. Local hits take a microsecond, less than the exchange with the pool: a program that only
reads what is on its own host may as well use ``client.sync`` from the loop.
"""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

from chariot._native import Client


class AsyncClient:
    """A connection to one daemon, for one event loop. Make it with ``await AsyncClient.connect()``."""

    def __init__(self, client, threads):
        self.sync = client
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="chariot")

    @classmethod
    async def connect(cls, address="127.0.0.1:31501", *, threads=4, **options):
        """Connects; the options are those of ``Client``. At most ``threads`` calls run at a time."""
        loop = asyncio.get_running_loop()
        make = functools.partial(Client, address, **options)
        return cls(await loop.run_in_executor(None, make), threads)

    async def _run(self, call, *arguments, **options):
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._pool, functools.partial(call, *arguments, **options)
        )

    async def set(self, name, value, /, **options):
        return await self._run(self.sync.set, name, value, **options)

    async def mset(self, items, /, **options):
        return await self._run(self.sync.mset, items, **options)

    async def get(self, name, /, **options):
        return await self._run(self.sync.get, name, **options)

    async def get_into(self, name, buffer, /, **options):
        return await self._run(self.sync.get_into, name, buffer, **options)

    async def mget(self, names, /, **options):
        return await self._run(self.sync.mget, names, **options)

    async def view(self, name, /, **options):
        return await self._run(self.sync.view, name, **options)

    async def mview(self, names, /, **options):
        return await self._run(self.sync.mview, names, **options)

    async def create(self, name, size, /, **options):
        return await self._run(self.sync.create, name, size, **options)

    async def exist(self, name, /):
        return await self._run(self.sync.exist, name)

    async def mexist(self, names, /):
        return await self._run(self.sync.mexist, names)

    async def prefix(self, names, /):
        return await self._run(self.sync.prefix, names)

    async def size(self, name, /):
        return await self._run(self.sync.size, name)

    async def delete(self, name, /):
        return await self._run(self.sync.delete, name)

    async def mdelete(self, names, /):
        return await self._run(self.sync.mdelete, names)

    async def expire(self, name, ttl, /):
        return await self._run(self.sync.expire, name, ttl)

    async def close(self):
        """Ends the client; calls under way are finished first."""
        await self._run(self.sync.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_exception):
        await self.close()
