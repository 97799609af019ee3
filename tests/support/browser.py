"""A page in headless Chromium: how wide it is laid out in windows of given widths, what sticks out, what
those who see little or nothing would miss, and how many sheets it fills on paper."""

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


AUDIT = """<script>
addEventListener("load", function () {
  /* act */
  var found = [], ids = {}, level = 0;
  function named(one) {
    return (one.getAttribute("aria-label") || one.alt || one.textContent || "").trim() ||
      (one.labels && one.labels[0] && one.labels[0].textContent.trim());
  }
  function channel(c) { c /= 255; return c <= 0.03928 ? c / 12.92 : Math.pow((c + 0.055) / 1.055, 2.4); }
  function light(c) { return 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]); }
  function parts(text) { return (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number); }
  function ground(one) {
    for (; one; one = one.parentElement) {
      var style = getComputedStyle(one), c = parts(style.backgroundColor);
      if (style.backgroundImage !== "none") return null;
      if (c.length < 4 || c[3] === 1) return c;
      if (c[3] > 0) return null;
    }
    return [255, 255, 255];
  }
  document.querySelectorAll("[id]").forEach(function (one) {
    if (ids[one.id]) found.push("two of the id " + one.id);
    ids[one.id] = true;
  });
  document.querySelectorAll("a[href]").forEach(function (one) {
    var href = one.getAttribute("href");
    if (href[0] !== "#" || !document.getElementById(href.slice(1))) found.push("a link to nowhere: " + href);
  });
  document.querySelectorAll("h1, h2, h3, h4").forEach(function (one) {
    var next = Number(one.tagName[1]);
    if (next > level + 1) found.push("a heading of level " + next + " after " + level);
    level = next;
  });
  var named_ones = "img, input, select, button, meter, th, a, [role=button], [role=img], dialog, nav";
  document.querySelectorAll(named_ones).forEach(
    function (one) { if (!named(one)) found.push("without a name: " + one.outerHTML.slice(0, 80)); });
  document.querySelectorAll(".words, .scroll").forEach(function (one) {
    if (one.tabIndex < 0) found.push("cannot be scrolled by keyboard: " + one.className);
  });
  var walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), node;
  while ((node = walker.nextNode())) {
    var one = node.parentElement;
    if (!node.textContent.trim() || !one.offsetParent) continue;
    if (one.closest("script, style, svg, [hidden]")) continue;
    var style = getComputedStyle(one), below = ground(one);
    if (!below || (one.closest("details:not([open])") && !one.closest("summary"))) continue;
    var a = light(parts(style.color)), b = light(below), size = parseFloat(style.fontSize);
    var ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    var least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    var said = node.textContent.trim().slice(0, 40);
    if (ratio < least) found.push("contrast " + ratio.toFixed(2) + ": " + said);
  }
  document.title = "audited";
  document.documentElement.setAttribute("data-found", JSON.stringify(found));
});
</script></body>"""


def _run(page: Path, folder: Path, *options: str) -> str:
    usual = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}")
    command = [str(CHROMIUM), *usual, "--virtual-time-budget=5000", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def audited(page: Path, folder: Path, *, dark: bool = False, act: str = "") -> list[str]:
    """Faults of a page for those who see little, or read it by keyboard or aloud; `act` is run before."""
    probed = folder / "audited.html"
    probe = AUDIT.replace("/* act */", act)
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    dumped = _run(probed, folder, scheme, "--window-size=1280,800", "--dump-dom")
    told = re.search(r'data-found="(.*?)"', dumped)
    assert told is not None, f"the page never loaded: {dumped[:500]}"
    found: list[str] = json.loads(unescape(told[1]))
    return found


def sheets(page: Path, folder: Path) -> int:
    """Pages of paper that a page fills."""
    _run(page, folder, f"--print-to-pdf={folder / 'page.pdf'}")
    return len(re.findall(rb"/Type\s*/Page[^s]", (folder / "page.pdf").read_bytes()))
