"""Search without training: better samples of an unchanged generator (`mmreward search`, `mmreward refine`),
and preference pairs of them (`mmreward synthesize`).

Start with `job`: the contract (`Job`, `Selection`, `Found`) that every method keeps. `methods` has those of
`mmreward search` by name, `run` the two commands and the folder they write, `config` their YAML files.

- From a `Sampler` and a reward to weighted `Particles`: `best_of_n`, `fk`, `tree`, `pruning`.
- By gradients: `guided` (the velocity follows a reward), `reno` with `reno_terms` (the noise is optimised).
- By words: `refine` with `writers` (critics say what is wrong, the prompt is revised).
- Into pairs: `synthesis` (a judge chooses, with tools) and `contrasts` (prompts that differ in one respect);
  `synthesize` runs them.
"""
