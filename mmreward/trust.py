"""Trust boundary: what a row of data may decide, and what the operator alone may.

A row is a record of a data set, a column of a trainer, an envelope or a request to the server. It gives
media, text, numbers and booleans to score. It may choose a route or a reward that the operator declared (in
YAML or in code), or a rule reward of `RULES` with arguments of `DATA_SAFE`. Whatever names a program, an
interpreter, a host, a key, a path to weights or to code is the operator's: a row that brings such a thing
fails, and nothing of it is loaded.

Secrets are the other side of it: `hide` notes a key, and `redacted` keeps it out of whatever is shown.

Closed lists: what stands in none of them is the operator's. `tests/contract/test_trust_boundary.py` fails for
a registered reward or an argument that stands in none.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .errors import nearest
from .limits import limits, most

# fmt: off
RULES = frozenset({
    "aer", "answer", "choice", "click", "colour_entropy", "count", "dark_share", "detection_f1",
    "dynamic_iou", "edge_density", "edit_change", "format", "grounding", "gui_action", "gui_episode",
    "gui_grounding", "gui_step", "iou", "jpeg_compressibility", "jpeg_incompressibility", "label", "length",
    "math", "ocr", "oracle", "pointing", "probes", "repetition", "saturation", "sharpness", "temporal",
    "temporal_flickering", "time_series", "two_turns", "v_triune", "verdict", "vlm_r1", "yes_no",
})
"""Rewards that a row may name though nobody declared them: rules, without a network, a program or a file."""
JUDGED = frozenset({
    "aesthetic", "aesthetic_quality", "agent_judge", "arm_thinker", "arm_thinker_pair", "artifact",
    "artimuse", "background_consistency", "blip_vqa", "br_rm", "checklist", "clip_i", "clipscore", "code",
    "confidence", "consistency", "critique", "cyclereward", "d2_align", "deqa", "dino_i", "dopamine", "dpg",
    "dreamsim", "dynamic_degree", "editreward", "editscore", "evalmuse", "evidence", "followup", "geneval",
    "geneval2", "goal", "gvl", "harmonic", "head", "hpsv2", "hpsv3", "imagereward", "imaging_quality",
    "internvideo2", "iqa", "ixc", "listener", "liv", "llava_critic", "magicgui", "mm_rlhf",
    "motion_smoothness", "mps", "nora", "nsfw", "ocr_image", "perceptual", "pickscore", "pisces",
    "plan_judge", "preference", "prm", "qalign", "qwen_image_bench", "r1_reward", "r3m", "rationalrewards",
    "rationalrewards_pair", "reagent", "reagent_critic", "reference", "rewarddance", "rewarddance_group",
    "robometer", "robometer_pair", "roboreward", "sarm", "self_certainty", "skywork_vl", "social_reward",
    "subject_consistency", "t2i_compbench_3in1", "t2i_compbench_spatial", "thinking", "topreward",
    "ui_genie", "unifiedreward", "unifiedreward_answer", "unifiedreward_answers", "unifiedreward_pair",
    "viclip", "videoreward", "videoscore", "videoscore2", "vip", "visionreward", "visionreward_video",
    "visualprm", "vlac", "vqascore", "webarbiter",
})
"""Rewards that load weights or ask a server: a row may choose one that is declared, with its arguments."""

DATA_SAFE = frozenset({
    "accuracy_ratio", "aliases", "allowed", "answer", "bare", "boxed", "boxes", "casefold", "criteria",
    "curve", "divide", "edges", "empty_decay", "enough", "exceeded", "extension", "falloff", "fence",
    "format_ratio", "formula", "fps", "graded", "grammar", "guard", "kind", "labels", "limit", "margin",
    "measure", "min_chars", "min_think_chars", "mode", "only_boxed", "percent", "pixels", "prefilled",
    "preset", "progress", "punctuation", "radius", "ratios", "reading", "relax", "rule", "schedule",
    "select", "several", "size", "space", "span", "spoiled", "strict", "swipe", "target_space", "think",
    "thinking", "threshold", "tolerance", "unit", "units", "width",
})
"""Arguments of `RULES` that a row may set: thresholds, spaces, units, modes."""
OPERATOR_ONLY = frozenset({
    "absolute", "alignment", "alpha", "architecture", "aspects", "balance", "base", "baseline",
    "beginnings", "by", "calls", "cameras", "chat", "checkpoint", "classes", "classifier", "clean_label",
    "coefficients", "context", "contradictions", "counting", "critique", "deadline", "dependent",
    "detector", "dimension", "dimensions", "distance", "dtype", "encoder", "file", "fitted", "form",
    "frames", "gap", "generalist", "goal", "hd_num", "head", "helped", "high", "history",
    "history_tokens", "horizon", "how", "inverted", "judge", "keep", "knowledge", "last", "least", "lenient",
    "let_down", "level", "likeness", "lines", "listener", "low", "max_frames", "max_num", "max_pixels",
    "max_steps", "max_tokens", "memory", "meta", "metric", "min_confidence", "min_mass", "most_gaps",
    "order", "page", "placeholder", "pooling", "predictor", "principle", "probe", "processing", "processor",
    "prompt", "protocol", "python", "question", "questions", "reasons", "reduce", "references", "relative",
    "resize", "rubric", "scale", "screens", "screenshot", "seconds", "seed", "side", "soft", "states",
    "step", "suffix", "system", "task", "temperature", "text", "tokenizer", "tokens", "tools", "top", "tree",
    "turns", "update", "variant", "view", "vocabulary", "votes", "weights", "whole", "words", "workers",
    "writer",
})
"""Arguments that only the operator may set: they name programs, hosts, keys and weights, take time or memory,
or belong to `JUDGED`."""
# fmt: on


def of_row(
    rewards: Mapping[str, Any], declared: Mapping[str, list[Mapping[str, Any]]]
) -> dict[str, Mapping[str, Any]]:
    """Rewards that a row names, as they may be loaded: its own rules, and declared rewards as declared.

    Args:
        rewards: name -> arguments, as the row has them.
        declared: name -> the different arguments under which the operator declared it.

    Raises:
        ValueError: a reward that is neither a rule nor declared, or an argument that is the operator's; the
            message names every such key, and what to do.
    """
    if len(rewards) > limits().route_rewards:
        raise ValueError(
            f"rewards: a row may name {most('route_rewards')}, and this one names {len(rewards)}"
        )
    found: dict[str, Mapping[str, Any]] = {}
    wrong: list[str] = []
    for name, given in rewards.items():
        try:
            found[name] = _reward_of(name, {} if given is None else given, declared)
        except ValueError as error:
            wrong.append(f"rewards.{name}{error}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return found


def _reward_of(name: str, args: Any, declared: Mapping[str, list[Mapping[str, Any]]]) -> Mapping[str, Any]:
    if not isinstance(args, Mapping):
        raise ValueError(f": its arguments are {type(args).__name__}, not a mapping")
    reward = args.get("reward", name)
    if not isinstance(reward, str):
        raise ValueError(f".reward: it is {type(reward).__name__}, not the name of a reward")
    if reward in RULES:
        for key in args:
            if key not in DATA_SAFE and key not in ("reward", "columns"):
                raise ValueError(
                    f".{key}: {_why(key)}; declare the reward with it in the operator's YAML, and name that"
                )
        return args
    choices = declared.get(reward, [])
    if len(choices) == 1 and not set(args) - {"reward"}:
        return {"reward": reward, **choices[0]}
    if len(choices) > 1:
        raise ValueError(f": the operator declared {reward!r} in {len(choices)} ways; give each its own name")
    if choices:
        raise ValueError(
            f": a row may choose {reward!r} as the operator declared it, without arguments of its own "
            f"({', '.join(sorted(set(args) - {'reward'}))})"
        )
    known = sorted({*RULES, *declared})
    raise ValueError(
        f": no reward named {reward!r} that a row may name: {nearest(reward, known)}; declare others "
        "in the operator's YAML"
    )


def _why(key: str) -> str:
    if key in OPERATOR_ONLY:
        return "only the operator may set it, not a row of data"
    return f"no argument that a row may set: {nearest(key, sorted(DATA_SAFE))}"


def of_text(given: str) -> Any:
    """A row's route out of JSON; text that is no JSON object is the name of a declared one.

    Raises:
        ValueError: text that begins like an object and is not JSON, or is too long.
    """
    if len(given) > limits().route_characters:
        raise ValueError(f"has {len(given)} characters; the limit is {most('route_characters')}")
    if not given.lstrip().startswith(("{", "[")):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None


HIDDEN = "***"
SECRET = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
"""Names of environment variables whose values are hidden."""
LONG = 8
"""Characters of a key that no model writes by chance; shorter ones, such as EMPTY, may be words."""
_hidden: set[str] = set()


def hide(secret: str) -> None:
    """Keep a key out of notes and logs from now on, in the spellings of JSON and of URLs too."""
    spelled = {secret, json.dumps(secret)[1:-1], quote(secret, safe="")} if secret else set()
    _hidden.update(spelled)


def redacted(text: str, shortest: int = 1) -> str:
    """The text without any hidden key of at least `shortest` characters. To be called before text is cut: a
    piece of a key is not found any more."""
    for secret in sorted(_hidden, key=len, reverse=True):
        if len(secret) >= shortest:
            text = text.replace(secret, HIDDEN)
    return text


def unescaped(text: str) -> str:
    r"""Raw JSON with its \uXXXX read, in which a key may be spelled."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text).replace("\\/", "/")
