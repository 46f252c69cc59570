"""Connections that uvicorn alone would let in, or keep for ever."""

import gc
import json
import socket
import threading
import time
import weakref
from contextlib import ExitStack

import pytest
import uvicorn

from understudy.serving.connections import guarded
from understudy.serving.metrics import Meter

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


class Guarded:
    """A server in this process that lets three in."""

    def __init__(self, silence_s: float) -> None:
        self.meter = Meter(lambda: 0)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.made = []
        make = guarded(self.meter, most=3, silence_s=silence_s)

        def remembered(**given):
            protocol = make(**given)
            self.made.append(weakref.ref(protocol))
            return protocol

        config = uvicorn.Config(
            hello, http=remembered, lifespan="off", ws="none", log_config=None, log_level="critical", loop="asyncio"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listening]})
        self.thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def refused(self, reason: str) -> float:
        line = f'understudy_connections_refused_total{{reason="{reason}"}} '
        return float((self.meter.text().decode() + line + "0").partition(line)[2].split()[0])


@pytest.fixture
def server(request):
    made = Guarded(getattr(request, "param", 0.3))
    yield made
    made.server.should_exit = True
    made.thread.join(10)


def answer(client: socket.socket) -> tuple[str, dict]:
    data = b""
    while part := client.recv(2**16):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode().lower(), json.loads(body)


def greeted(client: socket.socket) -> bool:
    client.sendall(GET)
    data = b""
    while not data.endswith(b"hello") and (part := client.recv(2**16)):
        data += part
    return data.endswith(b"hello")


def test_requests_are_answered_on_one_connection_for_as_long_as_they_come(server):
    with server.connect() as client:
        for _ in range(9):
            assert greeted(client)
            time.sleep(0.1)
    assert server.refused("silent") == 0


@pytest.mark.parametrize("said", [b"", b"POST /predict HTTP/1.1\r\nHos", GET + b"GET /"])
def test_a_client_that_does_not_go_on_is_let_go(server, said):
    with server.connect() as client:
        client.sendall(said)
        begun = time.monotonic()
        try:
            while client.recv(2**16):
                pass
        except ConnectionResetError:
            pass
        assert 0.2 < time.monotonic() - begun < 4.0  # uvicorn's own time for silence after an answer is 5 s
    assert server.refused("silent") == 1


@pytest.mark.parametrize("said", [b"\x16\x03\x01\x02 hello\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 2**17])
def test_what_is_no_http_is_told_so_in_json(server, said):
    with server.connect() as client:
        client.sendall(said)
        try:
            head, body = answer(client)
        except ConnectionResetError:  # there was more to come when the answer had been sent
            assert len(said) > 2**16
        else:
            assert head.startswith("http/1.1 400")
            assert body == {"error": "this is no HTTP/1.1 request, or its head is too large"}
    assert server.refused("no_http") == 1


def test_too_many_are_told_to_come_again(server):
    with ExitStack() as held:
        assert all(greeted(held.enter_context(server.connect())) for _ in range(3))
        late = held.enter_context(server.connect())
        late.sendall(GET)
        head, body = answer(late)
    assert head.startswith("http/1.1 503")
    assert "retry-after: 1" in head
    assert "too many connections" in body["error"]
    assert server.refused("too_many") == 1


@pytest.mark.parametrize("server", [60.0], indirect=True)
def test_connections_that_were_closed_are_forgotten_at_once(server):
    for _ in range(20):
        with server.connect() as client:
            client.sendall(b"garbage\r\n\r\n")
            answer(client)
    until = time.monotonic() + 5
    while (alive := sum(one() is not None for one in server.made)) and time.monotonic() < until:
        gc.collect()
    assert alive == 0
