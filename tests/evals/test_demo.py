"""The README's two first commands and its Python examples, run as a user runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import forked

from mmreward.data.results import read

ROOT = Path(__file__).parents[2]
REWARDS = {"clipscore", "artifact", "checklist", "critique", "listener", "iou", "oracle"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the demo has been run."""
    place = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "mmreward.cli", "demo", "--rounds", "0"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (place / "printed.txt").write_text(done.stdout)
    return place


def test_every_reward_scores_the_pictures_and_the_table_says_so(place):
    rows = read(place / "runs/demo/scores.parquet")
    assert {row.reward for row in rows} == REWARDS and len(rows) == 32 * len(REWARDS)
    failed = [(row.reward, row.id, row.note) for row in rows if row.status not in ("ok", "na")]
    assert len(failed) <= 0.05 * len(rows), failed
    printed = (place / "printed.txt").read_text()
    assert all(name in printed for name in REWARDS) and "Spearman" in printed


def test_the_page_shows_every_picture_and_reaches_for_nothing_else(place):
    page = (place / "runs/demo/report.html").read_text(encoding="utf-8")
    assert page.count("data:image/") >= 32
    assert not re.search(r'(src|href)="https?:', page)


def test_the_same_seed_gives_the_same_pictures(place, tmp_path):
    from PIL import Image

    from mmreward.evals.demo import draw_prompts
    from mmreward.generators.mini_flow import MiniFlow
    from mmreward.sampling import media, sample

    prompt = draw_prompts(1, 0)
    again = media(sample(MiniFlow(), prompt, [0]))[0].picture()
    with Image.open(place / "runs/demo/pictures/00-0.png") as first:
        assert first.tobytes() == again.tobytes()


def test_the_documented_commands_and_examples_work_as_written(place):
    pages = [ROOT / "README.md", ROOT / "mmreward/data/README.md", ROOT / "mmreward/tune/README.md"]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    blocks = [block for text in texts for block in re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL)]
    commands = [line for kind, block in blocks if kind == "bash" for line in block.splitlines()]
    begun = (
        "mmreward score runs/",
        "mmreward report runs/mine",
        "mmreward report runs/clip",
        "mmreward tune configs/",
    )
    local = [line for line in commands if line.startswith(begun)]
    local = [f"{line} --dry-run" if " tune " in line else line for line in local]
    assert len(local) == 6
    (place / "configs").symlink_to(ROOT / "configs")  # they are typed in a clone of the repository
    for line in local:
        done = forked.python("-m", "mmreward.cli", *line.split()[1:], cwd=place)
        assert done.returncode == 0, done.stderr
    said = ""
    for example in (block for kind, block in blocks if kind == "python"):
        (place / "example.py").write_text(example)
        done = forked.python(place / "example.py", cwd=place)
        assert done.returncode == 0, done.stderr
        said += done.stdout
    assert re.search(r"^clipscore  1/1 +[01]\.\d", said, re.MULTILINE) and "earned 0" in said
