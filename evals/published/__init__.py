"""Published scorers beside their publishers' own code: the parts of `python -m mmreward.evals.parity`.

`checkpoints` draws tiny random weights in every published file format. `upstream` has the publishers'
packages behind one interface; it is run as a file, by an interpreter that has the package. `second` writes
each formula a second time, for packages that are not there. `cases` says which scorer is held against which
of them, and on which pictures.
"""
