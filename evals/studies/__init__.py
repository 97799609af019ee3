"""Studies: gains of methods on the miniature, judged by what no method optimises.

`tuning` and `searching` improve mini-flow, `vlm_rl` (examined by `vlm_exam`) and `judges` train mini-vlm.
Each is a command, `python -m mmreward.evals.studies.NAME`, that prints a table in Markdown.
"""
