"""Grounding sets from real pages: screenshots with the boxes and names of what can be clicked.

`record` writes ScreenSpot's form: `screenspot_web.json`, rows of {img_filename, bbox [x, y, width, height] in
pixels, instruction, data_type, data_source} and what else is known (image_size, url), with the pictures in
`images/`. The benchmark `screenspot` measures predictions on it as on the published files.

Taken are elements that a user can hit: on the screen as a whole, not covered, with a name. Where two of one
screen have the same name and role no instruction could tell them apart, and neither is taken. What a page
says is data: its words become instructions and nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlparse

from mmreward.files import whole_file

from .browser import Browser, BrowserError

LABELS, PICTURES = "screenspot_web.json", "images"
LEAST = 6
"""Pixels of an element's shorter side."""
LONGEST = 80
"""Characters of a name."""
MAX_ELEMENTS = 2000
ELEMENTS = """
(() => {
  const wanted = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [onclick], ' +
    '[role=button], [role=link], [role=tab], [role=checkbox], [role=menuitem], [role=switch], [role=option]';
  const tidy = text => (text || '').replace(/\\s+/g, ' ').trim();
  const name = one => {
    const by = (one.getAttribute('aria-labelledby') || '').split(' ')
      .map(id => id && document.getElementById(id)).filter(Boolean).map(other => other.textContent).join(' ');
    const inner = 'input, select, textarea';
    const label = one.labels && one.labels.length ? [...one.labels[0].childNodes].filter(part =>
      part.nodeType === 3 || (part.nodeType === 1 && !part.matches(inner) && !part.querySelector(inner)))
      .map(part => part.textContent).join(' ') : '';
    const own = /^(INPUT|SELECT|TEXTAREA)$/.test(one.tagName) ? '' : one.innerText;
    const value = /^(submit|button|reset)$/.test(one.type || '') ? one.value : '';
    return [one.getAttribute('aria-label'), by, label, value, own, one.getAttribute('placeholder'), one.title,
      one.getAttribute('alt'), (one.querySelector('img[alt]') || {}).alt].map(tidy).find(Boolean) || '';
  };
  const role = one => one.getAttribute('role') || ({ A: 'link', BUTTON: 'button', SELECT: 'list',
    TEXTAREA: 'field', SUMMARY: 'button' })[one.tagName] || (one.tagName !== 'INPUT' ? 'button' :
    ({ checkbox: 'checkbox', radio: 'option', submit: 'button', button: 'button' })[one.type] || 'field');
  const seen = [];
  for (const one of document.querySelectorAll(wanted)) {
    const box = one.getBoundingClientRect(), style = getComputedStyle(one);
    if (box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight) continue;
    if (style.visibility !== 'visible' || one.disabled) continue;
    const at = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    if (!at || !(one === at || one.contains(at) || at.contains(one))) continue;
    const field = /^(INPUT|SELECT|TEXTAREA)$/.test(one.tagName);
    const words = field ? (one.value || one.placeholder) : one.innerText;
    seen.push({ x: box.left, y: box.top, width: box.width, height: box.height, name: name(one),
      role: role(one), text: /[\\p{L}\\p{N}]/u.test(words || '') });
    if (seen.length > LIMIT) break;
  }
  return seen;
})()
""".replace("LIMIT", str(MAX_ELEMENTS))
"""JavaScript that lists what can be hit on the screen."""
LINKS = "[...document.querySelectorAll('a[href]')].slice(0, 2000).map(one => one.href)"
AT_END = "scrollY + innerHeight >= document.documentElement.scrollHeight - 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What was recorded.

    Args:
        labels: the file of rows.
        rows: elements in it.
        screens: screenshots.
        ambiguous: elements that were left out because another one has the same name and role.
        failed: pages that could not be opened, with the reason.
    """

    labels: Path
    rows: int
    screens: int
    ambiguous: int
    failed: Mapping[str, str]


def record(browser: Browser, url: str, out: Path, *, pages: int = 1, screens: int = 1) -> Recorded:
    """Record a page, and those of its site that it links to.

    Args:
        browser: its screen is the size of the pictures.
        url: where to begin.
        out: a folder that is new or empty.
        pages: at most; further ones are those that links lead to, of the same host, in their order.
        screens: of each page at most, from its top down.

    Raises:
        ValueError: the folder has files, or `pages` or `screens` is below 1.
        BrowserError: the first page cannot be opened.
    """
    if pages < 1 or screens < 1:
        raise ValueError(f"pages {pages} and screens {screens} are 1 at least")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: record into a new folder")
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    waiting, known = [url], {urldefrag(url).url}
    shots = ambiguous = opened = 0
    while waiting and opened < pages:
        address = waiting.pop(0)
        try:
            browser.open(address)
        except BrowserError as error:
            if not opened and not waiting:
                raise
            failed[address] = str(error)
            continue
        opened += 1
        for link in browser.evaluate(LINKS):
            plain = urldefrag(str(link)).url
            if plain not in known and _same_site(plain, url):
                known.add(plain)
                waiting.append(plain)
        for number in range(screens):
            picture = f"{shots:04d}.png"
            elements = browser.evaluate(ELEMENTS)
            (out / PICTURES / picture).write_bytes(browser.screenshot())
            kept, lost = _rows(elements, picture, browser, address)
            rows, shots, ambiguous = [*rows, *kept], shots + 1, ambiguous + lost
            if number + 1 == screens or browser.evaluate(AT_END):
                break
            browser.evaluate("scrollBy({ top: innerHeight, behavior: 'instant' })")
            browser.settle()
    labels = out / LABELS
    with whole_file(labels) as part:
        part.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    return Recorded(labels=labels, rows=len(rows), screens=shots, ambiguous=ambiguous, failed=failed)


def _same_site(link: str, first: str) -> bool:
    a, b = urlparse(link), urlparse(first)
    if a.scheme != b.scheme or a.netloc != b.netloc:
        return False
    return a.scheme != "file" or Path(a.path).parent == Path(b.path).parent


def _rows(
    elements: Sequence[Mapping[str, Any]], picture: str, browser: Browser, address: str
) -> tuple[list[dict[str, Any]], int]:
    """Rows of a screen, and the number of elements that share name and role with another one."""
    good = [one for one in elements if one["name"] and min(one["width"], one["height"]) >= LEAST]
    named = [(str(one["role"]), str(one["name"])[:LONGEST]) for one in good]
    rows = [
        {
            "img_filename": f"{PICTURES}/{picture}",
            "bbox": [round(float(one[side]), 2) for side in ("x", "y", "width", "height")],
            "instruction": f'the {role} "{name}"',
            "data_type": "text" if one["text"] else "icon",
            "data_source": urlparse(address).netloc or "file",
            "image_size": [browser.width, browser.height],
            "url": address,
        }
        for one, (role, name) in zip(good, named, strict=True)
        if named.count((role, name)) == 1
    ]
    return rows, len(good) - len(rows)
