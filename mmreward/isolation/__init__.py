"""Processes of their own: rewards in other interpreters, and jobs that may hang; start with `interpreters`.

`interpreters` (`load(name, python=...)`), `child` (the supervisor of one interpreter) and `worker` (what runs
in it); `killable` (workers under a hard deadline, for symbolic algebra and reward code) and `confined` (such
a worker, which runs code without imports, files or network). All go through `process` (start, hello, last
words, end) and `protocol` (framed messages).
"""
