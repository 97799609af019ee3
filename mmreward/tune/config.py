"""Configuration of a training run, as YAML describes it. Keys are strict: an unknown one is refused with the
nearest name.

Only the description is here; `trainer` makes what is described. Defaults are those of the published recipes.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ..config import (
    Amount,
    EngineConfig,
    LimitsGiven,
    Positive,
    ShapingSteps,
    SharedRewards,
    Strict,
    load_yaml,
)

Share = Annotated[float, Field(ge=0, le=1)]


class PromptsConfig(Strict):
    """The prompts of a run.

    `data` is a file or folder as for `mmreward score`, or "shapes-world" for `count` captions of the
    miniature, each with its checklist, drawn from `seed`. For `PreferenceConfig` it is a folder of pairs.
    """

    data: str
    count: Positive | None = None
    seed: int = 0


class KernelConfig(Strict):
    """The stochastic step, see `kernels.Kernel`; without `eta`, the usual one of the kernel."""

    name: str = "flow"
    eta: float | None = None
    density: Literal["gaussian", "dropped"] = "gaussian"


class RolloutConfig(Strict):
    """Rollouts: `prompts` x `group` samples are drawn in a round.

    `selector` names the trained steps and its arguments (see `steps.selector`); `stochastic: all` draws noise
    in all steps but the last instead of the trained ones alone. `micro_batch` rows go through the network
    together.
    """

    prompts: Positive = 8
    group: Positive = 24
    micro_batch: Positive = 24
    steps: Positive = 10
    guidance: float | None = None
    same_noise: bool = False
    kernel: KernelConfig = KernelConfig()
    selector: dict[str, Any] = Field(default_factory=lambda: {"name": "all_but_last"})
    stochastic: Literal["trained", "all"] = "trained"
    solver: Literal["euler", "dpm2"] = "euler"
    compress: Annotated[float, Field(gt=0, le=1)] | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"


class AdvantageConfig(Strict):
    """Advantages from scores, see `advantages.group_advantages` and `aggregate.aggregate`.

    `restandardise` standardises the sums of zscore_sum and rank_sum once more over all rows (GDPO).
    """

    mode: Literal[
        "zscore_sum", "rank_sum", "raw_sum", "weighted_mean", "min", "max", "gated", "separate_loss"
    ] = "zscore_sum"
    gates: dict[str, float] = Field(default_factory=dict)
    std_scope: Literal["group", "global", "none"] = "group"
    ddof: Literal[0, 1] = 0
    eps: Amount = 1e-4
    clip: Annotated[float, Field(gt=0)] = 5.0
    min_valid: Positive = 2
    zero_variance: Literal["drop", "keep"] = "drop"
    baseline: Literal["mean", "leave_one_out"] = "mean"
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    restandardise: bool = False

    @model_validator(mode="after")
    def _sums(self) -> "AdvantageConfig":
        if self.restandardise and self.mode not in ("zscore_sum", "rank_sum"):
            raise ValueError(f"restandardise is for zscore_sum and rank_sum, not {self.mode}")
        return self


class PolicyConfig(Strict):
    """Policy gradients on trajectories: PPO (Flow-GRPO), GRPO-Guard, Flow-DPPO.

    `clip` defaults to 1e-4 (2e-6 for guard); `kl` is the coefficient of the divergence from the reference,
    in the space `kl_space`.
    """

    name: Literal["grpo", "guard", "dppo"]
    clip: Amount | None = None
    threshold: Amount = 1e-5
    updates: Positive = 1
    kl: Amount = 0.0
    kl_space: Literal["mean_gauss", "mean_mse", "velocity_mse", "old_policy"] = "mean_gauss"
    ratio_tolerance: Amount = 1e-5


class D3poConfig(Strict):
    """D3PO: the best and the worst trajectory of each group, which start at the same noise."""

    name: Literal["d3po"]
    beta: Amount = 0.1
    band: tuple[float, float] = (0.9, 1.1)
    updates: Positive = 1
    ratio_tolerance: Amount = 1e-5


class TimesConfig(Strict):
    """Noise levels that each sample is trained at: how many, and their distribution (see `steps`)."""

    name: Literal["grid", "uniform", "logit_normal"] = "grid"
    number: Positive = 4
    shift: Annotated[float, Field(gt=0)] = 1.0


class ForwardProcessConfig(Strict):
    """Losses on the forward process of finished samples: NFT, AWM, CRD, DGPO, reward-weighted and supervised
    matching, and online DPO and RPO.

    `beta` defaults to the recipe's own (nft 1, dgpo 100, dpo 100, crd 1, rpo 1). `decay` says how the old
    policy, which draws the samples of nft and crd and is dgpo's reference, follows the new one: one of
    `forward_process.OLD_DECAY`. `rpo` (arXiv:2407.12164) is online DPO that also fits the best sample of each
    group, and prefers it to the worst one with probability sigmoid((A_best - A_worst) / `temperature`), A
    being advantages; `temperature` is also that of rwr and crd.

    `hold_clipped` is PPO's clipping for dgpo, which has no ratio of its own: rows whose
    exp(error at the start of the round - error now) has left 1 +- `hold_clipped` the way they are pushed have
    no gradient. In the first update of a round every such ratio is 1, so `updates` must be 2 or more.
    """

    name: Literal["nft", "awm", "crd", "dgpo", "rwr", "sft", "dpo", "rpo"]
    beta: Amount | None = None
    updates: Positive = 1
    times: TimesConfig = TimesConfig()
    kl: Amount = 0.0
    mapping: Literal["all", "positive_only", "negative_only", "one_only", "binary"] = "all"
    clip: Amount = 1e-4
    weighting: Literal["uniform", "s", "s2", "huber", "ghuber"] = "uniform"
    decay: Literal["copy", "nft", "nft_late", "dgpo", "crd"] | None = None
    temperature: Annotated[float, Field(gt=0)] = 1.0
    hold_clipped: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _holds(self) -> "ForwardProcessConfig":
        if self.hold_clipped is not None and (self.name != "dgpo" or self.updates < 2):
            raise ValueError(
                f"hold_clipped clips dgpo from the second update of a round on: {self.name} with updates "
                f"{self.updates} has nothing to clip"
            )
        return self


class GradientConfig(Strict):
    """Back-propagation of differentiable rewards through the last steps.

    ReFL, DRaFT-K and -LV, AlignProp, direct alignment (SRPO). `last` is K; `range` the steps that AlignProp
    and ReFL choose from; `margin` ReFL's; `copies` DRaFT-LV's.

    Ctrl-U (arXiv:2410.11236) noises the pictures of `prompts.data` to a level below `highest`; the reward of
    what one step makes of one counts less where it differs at a level `gap` higher. `cache_bytes` of latents
    are kept.
    """

    name: Literal["draft", "draft_lv", "align_prop", "refl", "srpo", "ctrl_u"]
    last: Positive = 1
    range: tuple[int, int] | None = None
    margin: float = 2.0
    copies: Positive = 4
    checkpointing: bool = False
    kl: Amount = 0.0
    positive: str = ""
    negative: str = ""
    highest: Annotated[float, Field(gt=0, le=0.9)] = 0.4
    gap: Annotated[float, Field(gt=0, le=0.1)] = 1e-3
    cache_bytes: Annotated[int, Field(ge=0)] = 4 << 30


class PreferenceConfig(Strict):
    """Offline preference optimisation: `prompts.data` is a folder of pairs that `mmreward pairs` wrote.

    A round is one optimiser step on `batch` pairs, `micro_batch` of which go through the network together,
    each at `times.number` noise levels; `grid` are the levels of the generator's own sampler, which for
    diffusion models are evenly spaced timesteps. diffusion_dpo has beta 2500 and compares errors of the
    noise, the others have 100 (flow_rpo 1) and the velocity; `space` changes that. `sft` adds so much of the
    chosen one's own error, where the policy would otherwise drift away from both. `guidance` is that of
    training. Of the latents, `cache_bytes` are kept.

    `flow_rpo` (arXiv:2407.12164) adds the whole of the chosen one's error, and prefers it with probability
    sigmoid((chosen_score - rejected_score) / `temperature`); pairs without these columns are certain. The
    scores are raw: choose a `temperature` on the scale of the reward.
    """

    name: Literal["diffusion_dpo", "flow_dpo", "ipo", "hinge", "flow_rpo"]
    beta: Annotated[float, Field(gt=0)] | None = None
    space: Literal["velocity", "epsilon"] | None = None
    times: TimesConfig = TimesConfig(name="uniform", number=1)
    batch: Positive = 32
    micro_batch: Positive = 8
    sft: Amount = 0.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    guidance: float = 1.0
    cache_bytes: Annotated[int, Field(ge=0)] = 4 << 30


Method = Annotated[
    PolicyConfig | D3poConfig | ForwardProcessConfig | GradientConfig | PreferenceConfig,
    Field(discriminator="name"),
]


class LoraConfig(Strict):
    """LoRA layers: `alpha` is 2 `rank` unless given, `targets` are ends of layer names, by default the
    generator's."""

    rank: Positive = 32
    alpha: Amount | None = None
    targets: tuple[str, ...] | None = None


class OptimiserConfig(Strict):
    """AdamW; `clip` is the largest norm of the gradient."""

    lr: Amount = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: Amount = 1e-4
    eps: Amount = 1e-8
    clip: Amount = 1.0
    warmup: Annotated[int, Field(ge=0)] = 0


class EmaConfig(Strict):
    """Exponential moving average of the weights, updated every `every` optimiser steps; it is evaluated and
    saved."""

    decay: Share = 0.9
    every: Positive = 8


class SizeConfig(Strict):
    """Size of a picture or a clip, in pixels."""

    height: Positive
    width: Positive


class EvaluationConfig(Strict):
    """Evaluations: every `every` rounds one sample per held-out prompt from fixed seeds, with the averaged
    weights and without noise in the steps. The first `shown` of them become the before/after grid.

    With `larger`, those prompts are also drawn at that size, for the monitors alone: the texture of an
    over-optimised generator goes wrong there first.
    """

    prompts: PromptsConfig
    every: Positive = 10
    steps: Positive | None = None
    guidance: float | None = None
    batch: Positive = 64
    seed: int = 0
    shown: Annotated[int, Field(ge=0)] = 16
    larger: SizeConfig | None = None

    @model_validator(mode="after")
    def _enough_to_compare(self) -> "EvaluationConfig":
        if self.larger is not None and self.shown < 2:
            raise ValueError(
                f"larger draws the prompts that are shown, and its monitors compare at least two: shown is "
                f"{self.shown}"
            )
        return self


class AlarmConfig(Strict):
    """The alarm, see `monitor.alarms.OverOptimisation`. `stop` ends the run and keeps the weights of the best
    evaluation."""

    tolerance: Annotated[float, Field(gt=0)] = 3.0
    patience: Positive = 2
    spread: Annotated[float, Field(gt=0)] = 4.0
    baseline: Annotated[int, Field(ge=2)] = 3
    stop: bool = True


class EarlyStopConfig(Strict):
    """Early stopping, see `monitor.alarms.Plateau`: end when the held-out rewards (their sum; without any,
    the optimised total) have not risen by more than `least` in `patience` evaluations, and keep the weights
    of the best one."""

    patience: Positive = 3
    least: Amount = 0.0


class GardoConfig(Strict):
    """GARDO's guards (see `aggregate`); give one of them or both.

    Args:
        others: names among the rewards, with weight 0: they are scored and not optimised. Of the samples that
            the optimised rewards rank higher than these do, only the `share` that is overrated most is held
            to the reference by the method's `kl`.
        encoder: weights of a dual encoder that no reward is made of. Good samples that look unlike the rest
            of their group to it count more.
    """

    others: tuple[str, ...] = ()
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    encoder: str | None = None


class UncertaintyConfig(Strict):
    """Loss weights by a reward's uncertainty: samples of which it is unsure count less.

    Args:
        reward: its `Score.parts` contain the uncertainty.
        part: name of that part.
        weight: "prefpaint", exp(offset - slope u) clamped to [least, most], or "ctrl_u", exp(-u); see
            `losses.prefpaint_weight` and `losses.certainty`.
    """

    reward: str
    part: str = "uncertainty"
    weight: Literal["prefpaint", "ctrl_u"] = "prefpaint"
    slope: float = 0.05
    offset: float = 0.7
    least: Amount = 1.0
    most: Amount = 2.21


class FailureConfig(Strict):
    """Failure budget: a larger share of failed scores in a round ends the run; `timeout` is for one score, in
    seconds."""

    budget: Share = 0.05
    timeout: Annotated[float, Field(gt=0)] | None = 120.0


class TuneConfig(Strict):
    """One run of `mmreward tune`.

    Args:
        generator: a name, or a mapping with `name` and the loader's options.
        rewards: your name -> arguments, as in `Config`, or a score file whose rewards they are; these are
            optimised.
        weights: reward -> weight; all 1 unless given.
        shaping: steps that rewrite scores before they become advantages, see `shaping_steps`; a reward
            that is only read gets the weight 0. Not those that compare groups, which may lie on several
            processes.
        held_out: rewards that are measured and never optimised.
        lora: null trains every weight.
        precision: of the network's arithmetic; trained weights and the mathematics of steps are float32.
        checkpointing: forget the network's activations and compute them again in backward passes: a third
            more time for a fraction of the memory.
        shard: spread the frozen weights over the processes (FSDP); needs LoRA.
        minutes: of training, after which the run ends as if its rounds were done.
        trackers: tensorboard, wandb, trackio, ... as accelerate knows them.
    """

    generator: dict[str, Any]
    prompts: PromptsConfig
    rewards: SharedRewards
    weights: dict[str, float] = Field(default_factory=dict)
    shaping: ShapingSteps | None = None
    held_out: SharedRewards = Field(default_factory=dict)
    method: Method
    rollout: RolloutConfig = RolloutConfig()
    advantages: AdvantageConfig = AdvantageConfig()
    gardo: GardoConfig | None = None
    uncertainty: UncertaintyConfig | None = None
    lora: LoraConfig | None = LoraConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    ema: EmaConfig | None = EmaConfig()
    evaluation: EvaluationConfig
    alarm: AlarmConfig | None = AlarmConfig()
    early_stop: EarlyStopConfig | None = None
    failures: FailureConfig = FailureConfig()
    engine: EngineConfig = EngineConfig()
    limits: LimitsGiven = Field(default_factory=dict)
    rounds: Positive = 100
    minutes: Annotated[float, Field(gt=0)] | None = None
    checkpoint_every: Positive = 20
    precision: Literal["no", "bf16"] = "no"
    checkpointing: bool = False
    shard: bool = False
    trackers: tuple[str, ...] = ()
    seed: int = 0
    out: str

    @field_validator("generator", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _agrees(self) -> "TuneConfig":
        unknown = [name for name in self.weights if name not in self.rewards]
        if unknown:
            raise ValueError(f"a weight for {', '.join(unknown)}, which is not among the rewards")
        if self.shaping:
            self._shaping_agrees(self.shaping)
        if self.gardo is not None:
            self._gardo_agrees(self.gardo)
        if self.uncertainty is not None and self.uncertainty.reward not in self.rewards:
            raise ValueError(f"uncertainty.reward {self.uncertainty.reward!r} is not among the rewards")
        if (self.gardo or self.uncertainty) and isinstance(self.method, GradientConfig | PreferenceConfig):
            raise ValueError(f"gardo and uncertainty weigh advantages, and {self.method.name} has none")
        return self

    def _shaping_agrees(self, shaping: ShapingSteps) -> None:
        if isinstance(self.method, GradientConfig | PreferenceConfig):
            raise ValueError(f"shaping rewrites the scores of a round, and {self.method.name} has none")
        for step in shaping:
            if step.compares:
                raise ValueError(f"{step.name} compares groups, which may lie on several processes here")
            if step.rewrites in self.advantages.gates:
                raise ValueError(
                    f"{step.rewrites} is a gate, which looks at raw scores, and {step.name} rewrites it"
                )

    def _gardo_agrees(self, gardo: GardoConfig) -> None:
        if not gardo.others and gardo.encoder is None:
            raise ValueError("gardo needs others, encoder or both")
        if gardo.others and not getattr(self.method, "kl", 0):
            raise ValueError("gardo.others chooses the samples that the method's kl holds: give method.kl")
        wrong = [name for name in gardo.others if self.weights.get(name) != 0]
        if wrong:
            raise ValueError(
                f"gardo.others {', '.join(wrong)}: put it among the rewards and give it the weight 0"
            )


def load_tune_config(path: str | Path) -> TuneConfig:
    """Read a YAML file; raises as `load_yaml`."""
    return load_yaml(path, TuneConfig)
