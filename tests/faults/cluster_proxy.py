"""A network that loses what is said, from a process without rights: connections over TCP are put
through, from the address that is called to the one where somebody listens, as long as nothing is
wrong on the way. What is lost here is held back: for programs that is the same, as TCP says again
what was lost. Nobody hears of the end of a connection while the way to him is cut, either."""

import asyncio
import socket
import threading

BYTES_AT_ONCE = 8 << 10
BUFFER = 64 << 10  # what waits here of a slow link; more waits where it comes from
SLOW_RATE = 125_000  # bytes a second: 1 Mbit/s
LOOK_S = 0.01


class Proxy:
    """The sets, of hosts' addresses, are changed by who has the proxy, whenever he likes."""

    def __init__(self):
        self.cut = set()  # hosts
        self.lost = set()  # ways: (from, to)
        self.slow = set()  # hosts: for all that they say together
        self.busy_until = {}
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def forward(self, at, to):
        """Who calls `at` speaks with `to`: each is a host and a port."""
        listener = socket.create_server(at)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        listener.setblocking(False)
        asyncio.run_coroutine_threadsafe(self.accept(listener, to), self.loop)

    async def accept(self, listener, to):
        while True:
            caller, (host, _) = await self.loop.sock_accept(listener)
            self.loop.create_task(self.put_through(caller, host, to))

    async def put_through(self, caller, host, to):
        ways = (host, to[0]), (to[0], host)
        callee = socket.socket()
        callee.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        pumps = []
        for one in caller, callee:
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self.passable(*ways)
            await self.loop.sock_connect(callee, to)
            pumps = [self.loop.create_task(self.pump(caller, callee, ways[0])),
                     self.loop.create_task(self.pump(callee, caller, ways[1]))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        except OSError:
            pass  # nobody listens: the caller is hung up on
        await self.passable(*ways)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        caller.close()
        callee.close()

    async def pump(self, source, sink, way):
        said = True
        while said:
            await self.passable(way)
            said = await self.loop.sock_recv(source, BYTES_AT_ONCE)
            await self.take_time(way[0], len(said))
            await self.passable(way)
            await self.loop.sock_sendall(sink, said)
        sink.shutdown(socket.SHUT_WR)

    async def passable(self, *ways):
        while any(self.cut & set(way) or way in self.lost for way in ways):
            await asyncio.sleep(LOOK_S)

    async def take_time(self, host, size):
        if host in self.slow:
            now = self.loop.time()
            until = max(now, self.busy_until.get(host, now)) + size / SLOW_RATE
            self.busy_until[host] = until
            await asyncio.sleep(until - now)
