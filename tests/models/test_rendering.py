"""Chat templates that never end: stopped on whichever thread they run, and honest ones never."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from support.pace import allowed
from transformers.utils.chat_template_utils import render_jinja_template

from mmreward import Media, Sample, Unscorable, load, models
from mmreward.limits import set_limits
from mmreward.models.vlms.rendering import Renderer

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
SILENT = "{% for i in range(99999) %}{% for j in range(99999) %}{% set x = i * j %}{% endfor %}{% endfor %}"
TRYING = (
    "{% macro f(n) %}{% for i in range(99999) %}{{ f(n + 1) if n < 3 }}{% endfor %}{% endmacro %}{{ f(0) }}"
)


@pytest.fixture(autouse=True)
def hasty():
    set_limits(template_seconds=0.2)


def jinja(template):
    return render_jinja_template([[{"role": "user", "content": "hi"}]], chat_template=template)[0][0]


@pytest.mark.parametrize("template", [ENDLESS, SILENT, TRYING])
@pytest.mark.parametrize("main", [True, False])
def test_an_endless_template_is_stopped_on_its_thread(template, main):
    def render():
        with pytest.raises(Unscorable, match=r"of mine does not end within 0\.2 s") as caught:
            Renderer("mine").text(lambda: jinja(template))
        return caught.value.status

    begun = time.monotonic()
    if main:
        assert render() == "timeout"
    else:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(render).result(20) == "timeout"
    assert time.monotonic() - begun < allowed(8, time.monotonic)


def test_one_that_did_not_end_three_times_is_not_tried_again():
    renderer, tries = Renderer("mine"), []

    def render():
        tries.append(1)
        return jinja(SILENT)

    for _ in range(6):
        with pytest.raises(Unscorable, match="does not end"):
            renderer.text(render)
    assert len(tries) == 3


AFTERWARDS = f"""
import sys
from transformers.utils.chat_template_utils import render_jinja_template
from mmreward import Unscorable
from mmreward.limits import set_limits
from mmreward.models.vlms.rendering import Renderer

set_limits(template_seconds=0.2)
chat = [[{{"role": "user", "content": "hi"}}]]
for template in ({SILENT!r}, {TRYING!r}):
    try:
        Renderer("mine").text(lambda: render_jinja_template(chat, chat_template=template)[0][0])
    except Unscorable:
        print("stopped")
sys.setprofile(lambda *_: None)
print(sum(map(lambda n: n, range(1000))))
"""


def test_a_profiler_ends_after_a_template_was_stopped():
    command = [sys.executable, "-c", AFTERWARDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["stopped", "stopped", "499500"], done.stderr


def test_waiting_costs_nothing_and_work_after_a_rendering_is_not_interrupted():
    renderer = Renderer("mine")

    def slow():
        time.sleep(0.5)
        return "text"

    def several(number):
        for _ in range(3):
            assert renderer.text(slow) == "text"
            until = time.thread_time() + 0.4
            while time.thread_time() < until:
                pass
        return number

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(several, range(2))) == [0, 1]


def test_a_stop_at_the_last_moment_reaches_nothing_else():
    """The deadline passes just as the text is there, again and again."""
    renderer = Renderer("mine")
    for delay in range(15):

        def render(delay=delay):
            until = time.thread_time() + 0.19 + delay / 750
            while time.thread_time() < until:
                pass
            return "text"

        try:
            assert renderer.text(render) == "text"
        except Unscorable:
            renderer._endless = 0
        sum(range(1000))
    assert threading.current_thread().is_alive()


def test_a_text_without_end_is_refused():
    set_limits(template_characters=100)
    with pytest.raises(Unscorable, match="101 characters, above 100"):
        Renderer("mine").text(lambda: "a" * 101)


def test_a_reward_with_an_endless_template_fails_at_once_and_says_so(engine):
    """The template runs on the loop's thread for the labels, on a worker's for the prompts."""
    network = models.vlm("mini-vlm").network
    kept = network.processor.chat_template
    network.processor.chat_template = SILENT
    rows = [Sample(id=str(i), prompt="red", image=Media(Image.new("RGB", (32, 32)))) for i in range(4)]
    begun = time.monotonic()
    try:
        scores = engine.score(rows, load("checklist", questions={"a": "Is it red?"}, judge="mini-vlm"))
        assert {one.status for one in scores["checklist"]} == {"timeout"}
        assert "chat template" in scores["checklist"][0].note
        assert time.monotonic() - begun < allowed(15, time.monotonic)
    finally:
        network.processor.chat_template = kept
        network._renderer._endless = 0
