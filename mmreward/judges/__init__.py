"""Training of vision-language models that judge pairs of pictures, and their examination.

Start with `training`: a `TrainingRun` and its stages (fine-tuning on true rationales, PARROT, rejection
sampling, GRPO), as a recipe in `configs/judge/` names them; `python -m mmreward.evals.studies.judges` runs
one. `comparison` is one question to a judge, `miniature` samples such questions from shapes world,
`rationales` samples a judge's answers and filters them, `exam` measures a judge on held-out comparisons.
"""
