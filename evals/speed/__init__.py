"""Speed comparison: the engine beside the code its users would otherwise write, `mmreward bench`.

Start at `speed.bench`. `contest` times contenders in turn and says what a task offers them; `clip` and `vlm`
are the tasks; `inputs` draws weights and pictures; `workloads` names which task runs over which pictures.
"""
