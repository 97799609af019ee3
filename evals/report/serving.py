"""A local server of one page that follows a run while it goes on.

The page is made again where the run's files have changed, and a browser that shows it asks every few seconds
whether they have. Of scores, what is on disk so far is shown. Answers this machine alone.
"""

import html
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

SECONDS = 5
"""Between two questions of a browser."""
LOCAL = ("127.0.0.1", "localhost", "[::1]")
FILES = ("config.json", "rounds.jsonl", "evaluations.jsonl", "ended.json", "history.jsonl", "metrics.jsonl")
"""Files of a run's folder that its page is made of, beside its scores."""
Stamp = tuple[tuple[str, int, int], ...]
ASKING = """<script>
(function () {
  "use strict";
  setInterval(function () {
    fetch("version").then(function (answer) { return answer.text(); }).then(function (seen) {
      if (seen !== "VERSION") location.reload();
    }).catch(function () {});
  }, SECONDS * 1000);
})();
</script>
</body>"""


def stamp_of(run: Path) -> Stamp:
    """Names, times and sizes of the files that a page about this run is made of."""
    if run.is_dir():
        known = [run / name for name in FILES] + sorted(run.glob("scores.*"))
    else:
        known = [run, run.with_name(run.name + ".parts")]
    files = [one for path in known for one in ((path, *sorted(path.iterdir())) if path.is_dir() else (path,))]
    stamps = []
    for path in files:
        try:
            status = path.stat()
        except OSError:  # not written yet, or a shard that has just become part of the whole
            continue
        stamps.append((path.name, status.st_mtime_ns, status.st_size))
    return tuple(stamps)


class Live:
    """The page of a run, made again when the run's files have changed.

    Args:
        run: as for `report.write_report`.
        make: the page, as it would be now.
    """

    def __init__(self, run: Path, make: Callable[[], str]) -> None:
        self._run, self._make = run, make
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._page = ""

    @property
    def version(self) -> str:
        """A word that changes with the run's files."""
        return f"{hash(stamp_of(self._run)):x}"

    def page(self) -> str:
        """The page, which asks for its version; why there is none yet, where the run has not come so far."""
        with self._lock:
            stamp = stamp_of(self._run)
            if stamp != self._stamp:
                try:
                    self._page = self._make()
                except (OSError, ValueError) as error:  # a file is half written, or there is none yet
                    self._page = waiting(str(error))
                self._stamp = stamp
            asking = ASKING.replace("VERSION", f"{hash(stamp):x}").replace("SECONDS", str(SECONDS))
            allowed = self._page.replace("default-src 'none';", "default-src 'none'; connect-src 'self';", 1)
            return asking.join(allowed.rsplit("</body>", 1))


def waiting(reason: str) -> str:
    """A page that says why there is none yet."""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>waiting</title></head><body><main>'
        f"<h1>Nothing to show yet</h1><p>{html.escape(reason)}</p></main></body></html>"
    )


def server_of(live: Live, port: int) -> ThreadingHTTPServer:
    """The server, on this machine's own address; `serve_forever` runs it.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            if host not in LOCAL and f"[{host}]" not in LOCAL:  # another site that points here
                self.send_error(403)
            elif self.path == "/":
                self._answer(live.page(), "text/html")
            elif self.path == "/version":
                self._answer(live.version, "text/plain")
            else:
                self.send_error(404)

        def _answer(self, words: str, kind: str) -> None:
            body = words.encode("utf-8", "replace")
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:
            """The terminal is the user's."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
