"""Page of the rewards: `mmreward/rewards/README.md` equals `mmreward list --markdown`, without torch."""

import subprocess
import sys
from pathlib import Path

import mmreward
from mmreward import list_rewards

PAGE = Path(mmreward.__file__).with_name("rewards") / "README.md"
LISTED = """
import sys
from mmreward.cli import app
try:
    app(["list", "--markdown"])
except SystemExit as end:
    assert not end.code, end.code
assert not {"torch", "transformers"} & set(sys.modules)
"""


def test_the_page_is_that_of_the_registry():
    done = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == PAGE.read_text(encoding="utf-8"), (
        "write it anew: mmreward list --markdown > mmreward/rewards/README.md"
    )


def test_every_reward_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    for info in list_rewards():
        assert f"| `{info.name}` |" in page and f"\n- `{info.name}`: " in page
