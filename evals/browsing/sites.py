"""A folder of pages as a site of this machine, for tasks that are done on it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(site: str | Path) -> Iterator[str]:
    """The address of a site: an address as it is, or that of a folder, which is given at 127.0.0.1 meanwhile.

    Raises:
        ValueError: it is neither.
    """
    if str(site).startswith(("http://", "https://")):
        yield str(site)
        return
    folder = Path(site)
    if not folder.is_dir():
        raise ValueError(f"the site {str(site)!r} is neither http://... nor a folder of pages")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
