"""Names of GUI actions, keys and directions: what each model family and data set calls the same thing.

Names are compared as `coordinates.plain_key` writes them: small letters and digits alone, so "LONG_PRESS",
"longPress" and "long_press" are one name.
"""

from collections.abc import Mapping
from typing import Any, Literal

Type = Literal[
    "click",
    "double_click",
    "triple_click",
    "right_click",
    "middle_click",
    "long_press",
    "move",
    "drag",
    "scroll",
    "type",
    "key",
    "open_app",
    "back",
    "home",
    "recent",
    "wait",
    "finish",
    "answer",
    "ask",
    "unknown",
]
"""Canonical types; "ask" hands the task back to the user, "unknown" is AndroidWorld's word for itself."""

POINTED = frozenset(
    {"click", "double_click", "triple_click", "right_click", "middle_click", "long_press", "move", "drag"}
)
"""Types that are done at a place."""
WORDED = frozenset({"type", "answer", "open_app", "finish", "key"})
"""Types that need words."""
PLACELESS = frozenset({"back", "home", "recent", "wait", "unknown", "ask"})
"""Types that are all that is said."""

CALLED: Mapping[str, str] = {
    "click": "click tap leftclick leftsingle singleclick clickelement touch mouseclick lefttap",
    "double_click": "doubleclick doubletap leftdouble leftdoubleclick",
    "triple_click": "tripleclick",
    "right_click": "rightclick rightsingle",
    "middle_click": "middleclick",
    "long_press": "longpress longclick longtap presshold",
    "move": "move moveto mousemove hover",
    "drag": "drag dragto leftclickdrag leftdrag draganddrop",
    "scroll": "scroll hscroll vscroll swipe slide",
    "type": "type inputtext write typewrite input typetext entertext typein text inserttext settext",
    "key": "key press hotkey keypress presskey keycombination",
    "open_app": "openapp open launch openapplication launchapp startapp awake",
    "back": "back navigateback pressback goback keyback",
    "home": "home navigatehome presshome gohome keyhome",
    "recent": "recent recents pressrecent pressrecents navigaterecent appselect keyappselect appswitch",
    "wait": "wait sleep",
    "finish": "finish finished terminate done complete completed status stop taskcomplete success exit",
    "answer": "answer",
    "ask": "calluser takeover interact",
    "unknown": "unknown",
}
SAYING: Mapping[str, tuple[Type, dict[str, Any]]] = {
    "keyboardenter": ("key", {"keys": ("enter",)}),
    "enter": ("key", {"keys": ("enter",)}),
    "pressenter": ("key", {"keys": ("enter",)}),
    "hotkeyenter": ("key", {"keys": ("enter",)}),
    "fail": ("finish", {"status": "failure"}),
    "failed": ("finish", {"status": "failure"}),
    "incomplete": ("finish", {"status": "failure"}),
    "impossible": ("finish", {"status": "infeasible"}),
    "infeasible": ("finish", {"status": "infeasible"}),
}
"""Names that say an argument, too."""
NAMES: Mapping[str, tuple[Type, dict[str, Any]]] = {
    **{name: (kind, {}) for kind, names in CALLED.items() for name in names.split()},  # type: ignore[misc]
    **SAYING,
}
"""Plain name -> canonical type and the arguments that the name alone says."""
PRESS = "press"
"""Beginning of names such as "press_tab", which name a key."""

DIRECTIONS: Mapping[str, str] = {
    spelling: side
    for side in ("up", "down", "left", "right")
    for spelling in (side, f"{side}ward", f"{side}wards", f"scroll{side}", f"swipe{side}", f"to{side}")
}
OPPOSITE: Mapping[str, str] = {"up": "down", "down": "up", "left": "right", "right": "left"}

KEYS: Mapping[str, str] = {
    "control": "ctrl",
    "ctl": "ctrl",
    "return": "enter",
    "escape": "esc",
    "command": "cmd",
    "meta": "cmd",
    "option": "alt",
    "windows": "win",
    "super": "win",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "pgdown": "pgdn",
    "del": "delete",
    "arrowup": "up",
    "arrowdown": "down",
    "arrowleft": "left",
    "arrowright": "right",
    "spacebar": "space",
    "ctrlleft": "ctrl",
    "ctrlright": "ctrl",
    "shiftleft": "shift",
    "altleft": "alt",
}
"""Spellings of keys."""

FROM = (
    *("coordinate", "point", "startbox", "startpoint", "startcoordinate", "start", "position", "element"),
    *("box2d", "fromcoord", "from", "bbox2d", "bbox", "box", "point2d", "touchpoint", "touch", "coordinates"),
    *("coords", "coord", "xy", "clickpoint", "center", "location", "pos"),
)
TO = (
    *("coordinate2", "point2", "endbox", "endpoint", "endcoordinate", "end", "tocoord", "to", "liftpoint"),
    *("lift", "target", "endposition"),
)
TEXTS = ("text", "content", "value", "inputtext", "message", "answer", "string", "response", "query")
APPS = ("appname", "app", "package", "packagename", "application", "text", "content", "inputtext", "name")
STATUSES = ("status", "goalstatus", "state", "message", "content", "text")
PRESSED = ("keys", "key", "hotkey", "keycode", "button", "text", "content", "value")
AMOUNTS: Mapping[str, int] = {"clicks": 1, "pixels": 1, "amount": 1, "scrolly": -1, "deltay": -1}
"""Arguments that count a scroll, and the sign of "up" in them."""
SIDEWAYS: Mapping[str, int] = {"scrollx": 1, "deltax": 1, "hclicks": 1}
"""The same for "right"."""
MODULES = frozenset(
    {
        "pyautogui",
        "mobile",
        "browser",
        "agent",
        "time",
        "computer",
        "phone",
        "device",
        "page",
        "mouse",
        "keyboard",
    }
)
"""Modules of which a call may be."""
