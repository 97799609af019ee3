"""Scores a data set with short shards and prints how many scores were new; the run that gets killed."""

import sys
from pathlib import Path

from mmreward import Engine
from mmreward.data import results
from mmreward.data.run import score_file
from mmreward.loading import resolve

data, out = map(Path, sys.argv[1:])
original = results.Results.__init__
results.Results.__init__ = lambda self, out, about, every=0.2: original(self, out, about, every)
with Engine("cpu") as engine:
    print(score_file(data, resolve("oracle"), out, engine).fresh)
