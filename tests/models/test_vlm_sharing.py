"""What is asked about one picture shares its beginning: the numbers are those of one request at a time.

The oracle is a plain transformers forward for each request (`naive`).
"""

import asyncio

import numpy as np
import pytest
import torch

from mmreward import Media, models
from mmreward.evals.published.vlm import naive_logprobs
from mmreward.models.vlms.answers import label_sets

LABELS = ("yes", "no")
QUESTIONS = [
    "Is there a red circle? Answer yes or no.",
    "Is there a red square? Answer yes or no.",
    "How many shapes are there in this picture and where are they placed? " * 3,
    "?",
    "Is there a red circle? Answer yes or no. Think first.",
]


@pytest.fixture
def forwards(vlm_folder, monkeypatch):
    """Counts what the vision tower and the language model are given."""
    network = models.vlm(vlm_folder).network
    seen = {"patches": 0, "tokens": 0, "batches": 0}
    network.vision.forget()
    language, visual = network.module.model.language_model, network.module.model.visual

    def count_tokens(module, args, kwargs):
        seen["tokens"] += kwargs["inputs_embeds"].shape[:2].numel()
        seen["batches"] += 1

    hooks = [
        language.register_forward_pre_hook(count_tokens, with_kwargs=True),
        visual.register_forward_pre_hook(lambda m, args: seen.update(patches=seen["patches"] + len(args[0]))),
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def run(engine, *calls):
    async def work():
        return await asyncio.gather(*calls)

    engine.cache.clear()
    return engine.run(work())


def naive_read(naive, images, question, sets):
    row = naive_logprobs(naive, images, question)[-1]
    scores = torch.stack([row[ids].logsumexp(0) for ids in sets])
    return float(scores.softmax(0)[0]), float(scores.exp().sum())


@pytest.fixture(scope="module")
def sets(naive):
    return label_sets(naive[1].tokenizer, "<|im_start|>assistant\n", LABELS)


def test_questions_about_two_pictures_read_as_each_alone(engine, vlm_folder, naive, sets, pictures):
    vlm = models.vlm(vlm_folder)
    asked = [(picture, question) for picture in (pictures[0], pictures[1]) for question in QUESTIONS]
    reads = run(engine, *(vlm.read(Media(picture), question, LABELS) for picture, question in asked))
    for (picture, question), read in zip(asked, reads, strict=True):
        yes, mass = naive_read(naive, [picture], question, sets)
        assert read.probs["yes"] == pytest.approx(yes, abs=1e-4)
        assert read.mass == pytest.approx(mass, abs=1e-4)


def test_pairs_share_their_first_picture(engine, vlm_folder, naive, sets, pictures):
    """A judge of pairs; and A alone, whose text begins where the others have a second picture."""
    vlm = models.vlm(vlm_folder)
    a, b, c = pictures[0], pictures[2], pictures[3]
    asked = [[a, b], [a, c], [b, a], [a], [a, a]]
    reads = run(engine, *(vlm.read([Media(p) for p in pair], QUESTIONS[0], LABELS) for pair in asked))
    for pair, read in zip(asked, reads, strict=True):
        assert read.probs["yes"] == pytest.approx(naive_read(naive, pair, QUESTIONS[0], sets)[0], abs=1e-4)


def test_different_pictures_of_one_size_do_not_merge(engine, vlm_folder, naive, sets, pictures):
    """Their placeholders are the same tokens; only the content tells them apart."""
    vlm = models.vlm(vlm_folder)
    dark = pictures[0].point(lambda value: value // 2)
    asked = [[pictures[3], pictures[0]], [pictures[3], dark]]
    reads = run(engine, *(vlm.read([Media(p) for p in pair], QUESTIONS[0], LABELS) for pair in asked))
    assert reads[0].probs != reads[1].probs
    for pair, read in zip(asked, reads, strict=True):
        assert read.probs["yes"] == pytest.approx(naive_read(naive, pair, QUESTIONS[0], sets)[0], abs=1e-4)


def test_continuations_of_one_prompt_score_as_each_alone(engine, vlm_folder, naive, pictures):
    vlm = models.vlm(vlm_folder)
    answers = ["yes", "yes, a red circle", "no, there are 2 shapes", "yes, a blue square"]
    scored = run(engine, *(vlm.logprob(Media(pictures[3]), QUESTIONS[0], answer) for answer in answers))
    for answer, got in zip(answers, scored, strict=True):
        logprobs = naive_logprobs(naive, [pictures[3]], QUESTIONS[0], answer)
        ids = naive[2]([pictures[3]], QUESTIONS[0], answer)["input_ids"][0]
        want = sum(float(logprobs[i - 1, ids[i]]) for i in range(len(ids) - got.tokens, len(ids)))
        assert got.total == pytest.approx(want, abs=1e-3)


def test_texts_written_from_a_shared_beginning_equal_those_written_alone(engine, vlm_folder, pictures):
    vlm = models.vlm(vlm_folder)
    jobs = [
        (picture, question, 4 + 3 * number, temperature)
        for picture in (pictures[0], pictures[3])
        for number, (question, temperature) in enumerate(
            zip(QUESTIONS, (0.0, 1.0, 0.0, 1.5, 0.0), strict=True)
        )
    ]

    def call(picture, question, limit, temperature):
        return vlm.write(Media(picture), question, max_tokens=limit, temperature=temperature, seed=3)

    together = run(engine, *(call(*job) for job in jobs))
    for job, batched in zip(jobs, together, strict=True):
        assert run(engine, call(*job)) == [batched]


def test_samples_of_one_prompt_differ_by_seed_alone(engine, vlm_folder, pictures):
    vlm = models.vlm(vlm_folder)

    def call(seed):
        return vlm.write(Media(pictures[0]), QUESTIONS[0], max_tokens=9, temperature=2.0, seed=seed)

    together = run(engine, *(call(seed) for seed in range(6)))
    assert [run(engine, call(seed))[0] for seed in range(6)] == together
    assert len({written.text for written in together}) > 1


def test_eight_questions_cost_one_picture(engine, vlm_folder, naive, forwards, pictures):
    """The tower runs once, and the language model sees the picture's tokens once."""
    vlm = models.vlm(vlm_folder)
    questions = [f"Is there a red circle? {number} Answer yes or no." for number in range(8)]
    run(engine, *(vlm.read(Media(pictures[3]), question, LABELS) for question in questions))
    inputs = naive[2]([pictures[3]], questions[0])
    image = int((inputs["input_ids"] == naive[0].config.image_token_id).sum())
    assert forwards["patches"] == len(inputs["pixel_values"])
    alone = inputs["input_ids"].shape[1] * 8
    assert forwards["tokens"] <= alone - 7 * image


def test_a_picture_seen_before_is_not_encoded_again(engine, vlm_folder, forwards, pictures):
    vlm = models.vlm(vlm_folder)
    first = run(engine, vlm.read(Media(pictures[1]), QUESTIONS[0], LABELS))
    patches = forwards["patches"]
    again = run(engine, vlm.read(Media(pictures[1]), QUESTIONS[0], LABELS))
    run(engine, vlm.write(Media(pictures[1]), QUESTIONS[1], max_tokens=2))
    assert forwards["patches"] == patches and again == first


def test_features_that_left_the_cache_are_made_again(engine, vlm_folder, forwards, pictures):
    """Prepared while they were known, forwarded after they had gone."""
    vlm = models.vlm(vlm_folder)
    (want,) = run(engine, vlm.read(Media(pictures[1]), QUESTIONS[0], LABELS))
    network = vlm.network
    from mmreward.models.vlms.answers import Ask
    from mmreward.models.vlms.qwen import Item

    detail = (LABELS, network.label_sets(LABELS))
    batch = network.prepare("read", [Item(Ask((Media(pictures[1]),), QUESTIONS[0]), vlm.view, detail)])
    assert all(sight.patches is None for sight in batch[0].sights)
    network.vision.forget()
    (got,) = network.forward("read", batch)
    assert got.probs["yes"] == pytest.approx(want.probs["yes"], abs=1e-6)


def test_features_make_room_when_memory_runs_out(engine, vlm_folder, forwards, pictures, monkeypatch):
    """The engine tries again with less; what was kept of other pictures must not be in the way."""
    vlm = models.vlm(vlm_folder)
    run(engine, vlm.read(Media(pictures[0]), QUESTIONS[0], LABELS))
    full = [True]
    usual = type(vlm.network)._run

    def lacking(self, *arguments, **options):
        if full.pop() if full else False:
            raise torch.OutOfMemoryError("no room")
        return usual(self, *arguments, **options)

    if not vlm.network.branches:
        pytest.skip("goes another way to the model")
    monkeypatch.setattr(type(vlm.network), "_run", lacking)
    patches = forwards["patches"]
    run(engine, *(vlm.read(Media(picture), QUESTIONS[0], LABELS) for picture in pictures[:2]))
    assert forwards["patches"] > patches, "encoded again, since it had been dropped"
    assert engine.stats().out_of_memory >= 1


def test_limits_on_pixels_keep_features_apart(engine, vlm_folder, pictures):
    usual, coarse = models.vlm(vlm_folder), models.vlm(vlm_folder, min_pixels=16 * 16, max_pixels=32 * 32)
    picture = Media(pictures[3])
    one, other = run(
        engine, usual.read(picture, QUESTIONS[0], LABELS), coarse.read(picture, QUESTIONS[0], LABELS)
    )
    assert one.probs != other.probs
    assert run(engine, usual.read(picture, QUESTIONS[0], LABELS))[0].probs["yes"] == pytest.approx(
        one.probs["yes"], abs=1e-5
    )


def test_text_that_poses_as_a_picture_is_refused_alone(engine, vlm_folder, pictures):
    vlm = models.vlm(vlm_folder)

    async def work():
        calls = [vlm.read(Media(pictures[0]), text, LABELS) for text in ("<|image_pad|> yes?", "yes?")]
        return await asyncio.gather(*calls, return_exceptions=True)

    bad, good = engine.run(work())
    assert "stands for a picture" in str(bad) and 0 <= good.mass <= 1


# --- clips ----------------------------------------------------------------------------------------


def clip(seed, frames=12):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (frames, 6, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def naive_clip(naive, frames, question, sets, fps):
    """The processor's own route, told the same frames."""
    from qwen_vl_utils.vision_process import smart_nframes

    model, processor, _ = naive
    content = [{"type": "video"}, {"type": "text", "text": question}]
    chat = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    count = smart_nframes({"fps": 2.0}, len(frames), fps)
    indices = np.linspace(0, len(frames) - 1, count).round().astype(int).tolist()
    about = {"total_num_frames": len(frames), "fps": fps, "frames_indices": indices}
    inputs = processor(
        text=[chat],
        videos=[torch.from_numpy(frames[indices]).permute(0, 3, 1, 2)],
        video_metadata=[about],
        do_sample_frames=False,
        return_tensors="pt",
    )
    inputs.pop("video_metadata", None)
    with torch.no_grad():
        model.model.rope_deltas = None
        row = model(**inputs).logits[0, -1].log_softmax(-1)
    scores = torch.stack([row[ids].logsumexp(0) for ids in sets])
    return float(scores.softmax(0)[0])


def test_clips_read_as_the_processor_prepares_them(engine, vlm_folder, naive, sets):
    vlm = models.vlm(vlm_folder)
    clips = [clip(0), clip(1), clip(2, frames=25)]
    asked = [(frames, question) for frames in clips for question in QUESTIONS[:3]]
    reads = run(engine, *(vlm.read(Media(f, "video", fps=5.0), q, LABELS) for f, q in asked))
    for (frames, question), read in zip(asked, reads, strict=True):
        want = naive_clip(naive, frames, question, sets, 5.0)
        assert read.probs["yes"] == pytest.approx(want, abs=1e-4)


def test_questions_about_one_clip_cost_one_clip(engine, vlm_folder, forwards):
    vlm = models.vlm(vlm_folder)
    frames = clip(3)
    run(engine, vlm.read(Media(frames, "video"), QUESTIONS[0], LABELS))
    one = forwards["patches"]
    vlm.network.vision.forget()
    run(engine, *(vlm.read(Media(frames, "video"), question, LABELS) for question in QUESTIONS))
    assert forwards["patches"] == 2 * one


def test_a_clip_and_a_picture_in_one_question(engine, vlm_folder, pictures):
    vlm = models.vlm(vlm_folder)
    media = [Media(clip(4), "video", fps=4.0), Media(pictures[0])]
    alone = run(engine, vlm.read(media, QUESTIONS[0], LABELS))[0]
    together = run(engine, *(vlm.read(media, question, LABELS) for question in QUESTIONS))
    assert together[0].probs["yes"] == pytest.approx(alone.probs["yes"], abs=1e-5)


def test_max_frames_thins_a_clip(vlm_folder):
    vlm = models.vlm(vlm_folder, max_frames=4)
    sight = vlm.network.vision.look(Media(clip(5, frames=40), "video", fps=4.0), vlm.view)
    assert sight.grid[0] == 2, "four frames, two to a patch"


def test_a_clip_of_one_frame_is_read(engine, vlm_folder):
    once, twice = Media(clip(6, frames=1), "video"), Media(clip(6, frames=1)[[0, 0]], "video")
    one, two = run(engine, *(models.vlm(vlm_folder).read(media, "?", LABELS) for media in (once, twice)))
    assert one.probs["yes"] == pytest.approx(two.probs["yes"], abs=1e-5)
