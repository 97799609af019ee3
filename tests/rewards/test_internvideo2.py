"""InternVideo2 of stage 2 from a tiny random file in the published format, against a second writing of its
graph.
"""

import numpy as np
import pytest
import torch

from mmreward import Engine, Sample, load
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import clips
from mmreward.evals.published.internvideo import (
    NaiveInternVideo,
    cosine,
    cropped,
    save_internvideo,
    squashed,
)
from mmreward.models.internvideo import opencv_linear, placed_evenly, stretched
from mmreward.models.wants import collecting

SAMPLES = clips.told()
CLIPS = [clips.clip_of(sample) for sample in SAMPLES]
PROMPTS = [sample.prompt for sample in SAMPLES]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return save_internvideo(tmp_path_factory.mktemp("internvideo"))


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


def scored(engine, samples, args, **more):
    return engine.score(samples, load("internvideo2", **args, **more))["internvideo2"]


def test_cosines_are_those_of_t2v_turbo(args, engine):
    naive = NaiveInternVideo(args, 8, fused=True)
    theirs = [cosine(naive, cropped(clip), text) for clip, text in zip(CLIPS, PROMPTS, strict=True)]
    scores = scored(engine, SAMPLES, args)
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-5)
    assert np.std(theirs) > 0.02, "equal values would prove nothing"
    assert [score.parts["truncated"] for score in scores] == [len(text) > 150 for text in PROMPTS]
    assert {len(clip) for clip in CLIPS} >= {1, 8}, "one frame alone, which is repeated, and eight"


def test_cosines_are_those_of_the_demonstration(args, engine):
    pytest.importorskip("cv2")
    naive = NaiveInternVideo(args, 4, fused=False)
    long = [row for row, clip in enumerate(CLIPS) if len(clip) >= 4]
    theirs = [cosine(naive, squashed(CLIPS[row]), PROMPTS[row]) for row in long]
    scores = scored(engine, SAMPLES, args, protocol="demo")
    assert [scores[row].value for row in long] == pytest.approx(theirs, abs=1e-5)
    short = [score for row, score in enumerate(scores) if row not in long]
    assert short and all("and the demonstration reads 4" in score.note for score in short)


def test_values_do_not_depend_on_the_batch(args, engine):
    together = [score.value for score in scored(engine, SAMPLES, args)]
    alone = [scored(engine, [sample], args)[0].value for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        backward = [score.value for score in scored(other, SAMPLES[::-1], args)]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


# --- traps --------------------------------------------------------------------------------------------------


def test_a_random_crop_can_be_had_again(args, engine):
    """Upstream's cannot."""
    values = {}
    for seed in (0, 0, 1, 2, 3):
        (score,) = scored(engine, SAMPLES[:1], args, seed=seed)
        assert values.setdefault(seed, score.value) == pytest.approx(score.value, abs=1e-5)
    assert len(set(values.values())) > 1


def test_two_long_prompts_have_different_scores_and_padding_is_not_seen(args, engine):
    samples = [Sample(prompt=f"a {word} " * 60, video=SAMPLES[0].video) for word in ("fox", "house")]
    one, other = scored(engine, samples, args)
    assert abs(one.value - other.value) > 1e-4 and one.parts["truncated"] == other.parts["truncated"] == 1


def test_positions_of_four_frames_are_stretched_in_time_alone():
    known = torch.arange(4.0)[:, None, None].expand(4, 9, 2).reshape(1, 36, 2)
    known = torch.cat([torch.full((1, 1, 2), 50.0), known], dim=1)
    found = stretched(known, 9, 8)
    assert found.shape == (1, 73, 2) and found[0, 0, 0] == 50
    times = found[0, 1:, 0].reshape(8, 9)
    assert (times == times[:, :1]).all() and times[:, 0].tolist() == [
        0,
        0.25,
        0.75,
        1.25,
        1.75,
        2.25,
        2.75,
        3,
    ]
    assert stretched(known, 9, 4) is known


def test_the_two_protocols_differ_in_frames_and_gelu(args, engine):
    one = load("internvideo2", **args)
    other = load("internvideo2", protocol="demo", **args)
    assert one.fingerprint != other.fingerprint
    exact, fused = (NaiveInternVideo(args, 8, fused=fused) for fused in (False, True))
    apart = cosine(exact, cropped(CLIPS[0]), PROMPTS[0]) - cosine(fused, cropped(CLIPS[0]), PROMPTS[0])
    assert abs(apart) > 1e-6
    assert placed_evenly(11, 4) == [0, 2, 4, 6] and placed_evenly(4, 4) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="the clip has 3 frames, and 4 are read"):
        placed_evenly(3, 4)


@pytest.mark.parametrize("size", [(40, 64), (70, 33), (10, 300), (48, 48), (24, 24), (17, 17)])
def test_frames_are_squashed_as_opencv_does_it(size):
    cv2 = pytest.importorskip("cv2")
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = opencv_linear(torch.from_numpy(frame).permute(2, 0, 1)[None], 24)
    assert found[0].permute(1, 2, 0).numpy().astype(np.uint8).tolist() == cv2.resize(frame, (24, 24)).tolist()


def test_another_file_is_refused(args, engine, tmp_path):
    state = torch.load(args["weights"], weights_only=True)["module"]
    for gone, said in (
        ("vision_encoder.pos_embed", "no 'vision_encoder.pos_embed'"),
        ("text_encoder.bert.encoder.layer.", "no 'text_encoder.bert.encoder.layer.0'"),
        ("vision_encoder.blocks.1.ls1.gamma", "missing"),
    ):
        rest = {name: tensor for name, tensor in state.items() if not name.startswith(gone)}
        torch.save({"module": rest}, tmp_path / "other.pt")
        with pytest.raises(Unavailable, match=said):
            scored(engine, SAMPLES[:1], {**args, "weights": str(tmp_path / "other.pt")})
        (tmp_path / "other.pt").unlink()
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    with pytest.raises(Unavailable, match="has 6 words, and"):
        scored(engine, SAMPLES[:1], {**args, "vocabulary": str(tmp_path / "vocab.txt")})


def test_what_is_fetched_is_the_file_and_the_vocabulary():
    with collecting() as wants:
        load("internvideo2")
    assert [(want.kind, want.name) for want in wants] == [
        ("hub file", "OpenGVLab/InternVideo2/InternVideo2-stage2_1b-224p-f4.pt"),
        ("hub file", "google-bert/bert-base-uncased/vocab.txt"),
    ]
