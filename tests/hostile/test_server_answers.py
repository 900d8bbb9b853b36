"""What somebody else's server answers (SERVER=http://…): one that lists no model is refused in a line."""

import socket
import threading

import pytest

from omr.evaluation.servers.named import NamedServer

from .kit import refusal

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.fixture
def server(request):
    """Answers every request with the same bytes; returns its address."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(request.param)

    threading.Thread(target=answer, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()


@pytest.mark.parametrize(
    "server",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff\x1b[2J" * 100,
        b"HTTP/1.1 999 \x1b[2J\r\n\r\n",
        *(
            HEAD + body
            for body in (b"", b"{", b"[" * 100_000, b"null", b"[]", b'{"data": 1}', b'{"data": [[]]}')
        ),
        HEAD + b'{"data": [{"id": ["\x1b[2J"], "root": {}}]}',
        HEAD + b'{"data": [{"id": "\\ud800\\u001b[2J"}], "version": {}}',
    ],
    indirect=True,
)
def test_an_answer_that_is_none(server, tmp_path):
    assert server in refusal(lambda: NamedServer(server).serve(tmp_path))


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:x", "http://127.0.0.1:99999", "http://[::1", "http://\x7f"]
)
def test_an_address_that_is_none(address, tmp_path):
    assert refusal(lambda: NamedServer(address).serve(tmp_path))
