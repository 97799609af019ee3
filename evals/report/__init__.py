"""Report pages: one self-contained HTML file about a run of scores, a training or a log of metrics by source.

Start at `report.write_report`. A page has a model (`scored`, `training_run`), a template in templates/, and a
module that fills one from the other (`page`, `training`, `sources`). `html` renders and escapes, `pictures`,
`curves` and `charts` draw, `stats` computes every interval.
"""
