"""Measurements of mmreward: the demo, the report pages, and every figure that the documentation quotes.

`demo` draws, scores and trains the miniature. report/ turns a run into one HTML page (`mmreward report`),
speed/ compares the engine with what its users would write otherwise (`mmreward bench`), `overhead` and
`training_overhead` hold the bars of cost, studies/ measures what methods gain, audits/ what breaks. README.md
in this folder lists the commands with their bars; the other Markdown files hold the figures.
"""
