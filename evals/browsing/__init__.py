"""A real browser for GUI agents: pages recorded as grounding sets, and tasks with functional checks.

`browser` drives Chromium over a pipe, without any package; `recording` makes a grounding set in ScreenSpot's
form from pages; `tasks` lets an agent act and checks what the pages say in the end.
"""
