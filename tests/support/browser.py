"""A page in headless Chromium: how wide it is laid out in windows of given widths, and what sticks out."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html import unescape
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<script>
addEventListener("load", function () {
  /* act */
  var errors = [], wide = document.documentElement.scrollWidth, seen = document.documentElement.clientWidth;
  document.querySelectorAll("main *").forEach(function (one) {
    var box = one.getBoundingClientRect();
    if (!box.width || box.right <= seen + 1 || one.closest(".scroll, .words, thead, svg")) return;
    errors.push(one.className || one.tagName);
  });
  parent.postMessage({ asked: innerWidth, wide: wide, seen: seen, over: errors.slice(0, 5),
    cards: document.querySelectorAll("#cards > :not([hidden])").length,
    script: !document.querySelector("form[hidden]") }, "*");
});
</script></body>"""


def laid_out(page: Path, folder: Path, widths: Sequence[int], act: str = "") -> list[dict[str, object]]:
    """What each window of these widths saw of a page: its own width, that of the content, what sticks out,
    how many cards are shown. `act` is a script that is run before."""
    probed = folder / "probed.html"
    probe = PROBE.replace("/* act */", act)
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    frames = "".join(
        f'<iframe src="{probed.name}" width="{width}" height="800"></iframe>' for width in widths
    )
    outer = folder / "windows.html"
    outer.write_text(
        f"<body><pre id='out'></pre>{frames}<script>var seen = []; addEventListener('message', function (e) "
        "{ seen.push(e.data); document.getElementById('out').textContent = JSON.stringify(seen); });</script>"
    )
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}")
    command = [str(CHROMIUM), *options, "--virtual-time-budget=5000", "--dump-dom", outer.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    told = re.search(r"<pre id=\"out\">(.*?)</pre>", dumped, re.DOTALL)
    assert told is not None and told[1], f"the page never loaded: {dumped[:500]}"
    return sorted(json.loads(unescape(told[1])), key=lambda one: int(one["asked"]))
