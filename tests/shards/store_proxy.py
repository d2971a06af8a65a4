"""A TCP proxy on loopback that counts requests and misbehaves when it is told to."""

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

REQUEST = re.compile(rb"GET (\S*?)(?:\?\S*)? HTTP/1.1\r\n")


class StoreProxy:
    """A way to an HTTP server.

    Args:
        port: where the server listens, on loopback.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.gets: Counter[str] = Counter()
        """How often each object was asked for, by the last part of its name."""
        self.mode = "open"
        """`open`; `dead`: connections are cut; `silent`: nobody answers; `slow`: 1 MB/s."""
        self.to_damage = 0
        """So many long pieces of answers have one bit flipped."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._calm = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def set(self, mode: str) -> None:
        """Change the mode; a dead one cuts what is under way."""
        self.mode = mode
        if mode == "dead":
            self._cut()

    def close(self) -> None:
        """Stop listening."""
        self._calm.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        self._cut()

    def _cut(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                if self.mode == "dead":
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.port))
                self._open |= {client, server}
                for pump in (self._ask, self._answer):
                    threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                self.gets.update(name.decode().rpartition("/")[2] for name in REQUEST.findall(data))
                server.sendall(data)
        self._end(client, server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 14):
                if self.mode == "silent":
                    continue
                if self.mode == "slow":
                    self._calm.wait(len(data) / 1e6)
                if self.to_damage and len(data) == 1 << 14 and b"HTTP/1.1" not in data:
                    self.to_damage -= 1
                    data = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
                client.sendall(data)
        self._end(client, server)

    def _end(self, *connections: socket.socket) -> None:
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
            self._open.discard(connection)


@contextmanager
def proxying(url: str) -> Iterator[StoreProxy]:
    """Stand before the server at `url`."""
    proxy = StoreProxy(int(url.rpartition(":")[2]))
    try:
        yield proxy
    finally:
        proxy.close()
