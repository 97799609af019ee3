"""Several workers: what they accept connections with."""

import socket

import pytest

pytest.importorskip("uvicorn")
from mmreward.server.app import serve


def test_what_workers_accept_sends_at_once(tmp_path, monkeypatch):
    """Without TCP_NODELAY an answer's body waits until the client has acknowledged its head, after 40 ms."""
    seen = []

    class Workers:
        def __init__(self, config, sockets, **given):
            (listening,) = sockets
            listening.listen()
            with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
                seen.append((config.workers, accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            listening.close()

        def run(self):
            seen.append("run")

    monkeypatch.setattr("uvicorn.supervisors.Multiprocess", Workers)
    routes = tmp_path / "routes.yaml"
    routes.write_text("routes: {boxes: {rewards: {iou: {}}}}\nengine: {device: cpu}\n")
    serve(routes, "127.0.0.1", 0, 2, 60.0)
    assert seen == [(2, 1), "run"]
