"""A member that is far away is reached: to connect takes as many round trips as it takes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from etcd_resize.errors import Retryable
from etcd_resize.gateway import EtcdGateway

ONE_WAY = 0.2
"""Seconds for which every byte is on its way."""


@pytest.fixture
def far_away() -> Iterator[str]:
    """The URL of a gRPC server that knows no method, behind a slow relay."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_relay, args=(listener, port), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    server.stop(None).wait()


def _relay(listener: socket.socket, port: int) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        time.sleep(2 * ONE_WAY)  # the handshake
        try:
            far = socket.create_connection(("127.0.0.1", port))
        except OSError:
            near.close()
            return
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=_carry, args=(source, target), daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with source, target:
        try:
            while data := source.recv(65536):
                time.sleep(ONE_WAY)
                target.sendall(data)
        except OSError:
            return  # the other direction has closed it


def test_a_member_200_ms_away_is_reached(far_away: str) -> None:
    gateway = EtcdGateway([far_away])
    try:
        with pytest.raises(Retryable, match="Method not found"):  # it has answered
            gateway.view()
    finally:
        gateway.close()
