"""Data in and out: rows of files as samples, scores as files, routes by source, preference pairs.

Start at `run.score_file`, which is `mmreward score`: `rows` reads a data set, `results` writes its scores.
`routing` scores mixed data by its source, `pairs` makes pairs of what was scored.
"""
