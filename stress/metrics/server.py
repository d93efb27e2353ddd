"""The metrics over HTTP, on one address: ``GET /metrics`` in the text format or as OpenMetrics.

The port is taken when the server is made, so that one in use is told before a run begins; requests
are answered from ``start`` on, in threads, and those that come before wait. The time between
matters: compiling forks, and a fork of a process with threads can hang. ``stop`` ends the threads.

There is no protection: all who reach the address may read. That is why the default is loopback.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from shmalloc.errors import MisuseError

CLIENT_TIMEOUT_S = 5.0  # a client that sends no request keeps a thread no longer
POLL_S = 0.1


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing: standard error belongs to the run."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # one that answers a slow client does not hold up the end of the run

    def server_bind(self) -> None:
        """Take the port. The base class asks for the host's name here, which can take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class MetricsServer:
    """Serves ``registry``. Raises ``MisuseError`` if the port cannot be taken."""

    def __init__(self, registry: CollectorRegistry, address: str, port: int) -> None:
        self._thread: threading.Thread | None = None
        try:
            family, _, _, _, place = socket.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except (socket.gaierror, UnicodeError) as error:
            raise MisuseError(
                f"metrics-address: {address!r} is no address of this machine ({error})"
            ) from error
        self._server = _made(family, place, address, port)
        self._server.set_app(make_wsgi_app(registry))
        host, self.port = self._server.server_name, self._server.server_port
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/metrics"

    def start(self) -> None:
        """Answer from now on."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._server.serve_forever, args=(POLL_S,), name="metrics", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Close the port; the thread has ended when this returns."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()


def _made(
    family: socket.AddressFamily, place: tuple[object, ...], address: str, port: int
) -> _Server:
    class Server(_Server):
        address_family = family

    try:
        return Server(place[:2], _Handler)  # type: ignore[arg-type]
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MisuseError(
                f"metrics-port: {port} of {address} is in use; use another, or 0 for a free one"
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise MisuseError(f"metrics-address: {address!r} is not of this machine") from error
        reason = os.strerror(error.errno or 0)
        raise MisuseError(f"metrics-port: {port} of {address}: {reason}; use another") from error
