"""The miniature: a world of coloured shapes, its oracle, and the six small models that are trained on it.

Start with `world` (scenes, pictures, captions) and `oracle` (reads a picture back by classical vision alone).
`tasks` and `dialogues` are the questions of the mini-vlm; `flow`, `clip`, `artifact` and `vlm` (with
`vlm_build`, `vlm_pretrain`, `vlm_measure`) build and train one model each on the loop in `loop`, `robot` a
judge of episodes from mini-vlm and `gui` an agent that reads `windows`; `corrupt` spoils pictures. Agents act
in `push` and on `screens`.

`python -m mmreward.mini.train MODEL` trains one, `python -m mmreward.mini.evaluate` measures all of them.
"""
