"""Training generators with rewards: online policy gradients, losses on the forward process, back-propagation,
DPO.

Start at `config` (a run described in YAML) and `trainer` (a run from its first round to its last). A round is
one of three modules: `online` (samples of the policy itself, with a method of `policy_gradient` or
`forward_process`), `gradient` (differentiable rewards, with `backprop`) and `offline` (stored preference
pairs). The losses are pure functions in `losses/`.
Beside the runs stand `fit` (maps for the rewards d2_align and pisces), `fit_head` (the reward head, from
compared pairs) and, for the data of a VLM's training, `mixture` and `source_scheduler`. Nothing here knows a
family of generators: see `generator.Generator`.
"""
