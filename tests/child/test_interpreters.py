"""Interpreters that are there, are not, lack something, or speak another language; scores are the same in
them."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from mmreward import Engine, Media, Sample, child, list_rewards, load
from mmreward.config import load_config
from mmreward.mini.world import describe, render, sample_scene
from mmreward.registry import find, resolve

from .conftest import install

pytestmark = pytest.mark.timeout(120)
