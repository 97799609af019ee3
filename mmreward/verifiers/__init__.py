"""Readers and comparisons that several verifiable rewards share: pure functions over text, linear in its
length, without a model.

Start with `response` (reasoning, answer, boxes, and the score of a response that cannot be read). `text`,
`numbers` and `math` compare short answers, `algebra` has two expressions compared in a process that can be
killed. `spaces`, `lists`, `markup` and `boxes` read coordinates and match them with the truth. What one
reward alone reads is in that reward's file under `mmreward/rewards/rules/`. Nothing a policy writes raises
anything but `Unscorable`.
"""
