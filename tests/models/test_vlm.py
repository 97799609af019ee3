"""The VLM route against a plain transformers forward, one request at a time, on tiny random Qwen2.5-VL and
Qwen3-VL.

The traps are those that pass unnoticed: padding read as the last token, positions left on the module by an
earlier request, packed rows that see each other.
"""

import asyncio
import json
import math
import shutil
import threading

import pytest
import torch
from transformers import AutoProcessor

from mmreward import Media, Sample, Unscorable, load, models
from mmreward.evals.published.vlm import naive_logprobs
from mmreward.models.vlms.answers import Ask, Turn, label_sets
from mmreward.models.vlms.qwen import Item

SHORT = "Is there a red circle? Answer yes or no."
LONG = "How many shapes are there in this picture and where are they placed? " * 4 + "Answer yes or no."


def gather(engine, *calls):
    async def work():
        return await asyncio.gather(*calls)

    return engine.run(work())


def test_read_matches_a_naive_forward(engine, vlm_folder, naive, pictures):
    vlm = models.vlm(vlm_folder)
    sets = label_sets(naive[1].tokenizer, "<|im_start|>assistant\n", ("yes", "no"))
    for picture in (pictures[0], pictures[3]):
        row = naive_logprobs(naive, [picture], SHORT)[-1]
        want = torch.stack([row[ids].logsumexp(0) for ids in sets])
        got = engine.run(vlm.read(Media(picture), SHORT, ("yes", "no")))
        assert got.probs["yes"] == pytest.approx(float(want.softmax(0)[0]), abs=2e-4)
        assert got.mass == pytest.approx(float(want.exp().sum()), abs=2e-4)


def test_a_batch_of_unequal_rows_reads_like_each_row_alone(engine, vlm_folder, pictures):
    """Trap: with right padding, keeping the last position reads padding."""
    vlm = models.vlm(vlm_folder)
    media = [Media(picture) for picture in pictures]
    asked = [
        (media[0], SHORT),
        (media[1], LONG),
        ((media[2], media[3]), SHORT),
        (None, LONG),
        (media[3], "?"),
    ]
    together = gather(engine, *(vlm.read(m, q, ("yes", "no")) for m, q in asked))
    for (m, q), batched in zip(asked, together, strict=True):
        engine.cache.clear()
        alone = engine.run(vlm.read(m, q, ("yes", "no")))
        assert alone.probs["yes"] == pytest.approx(batched.probs["yes"], abs=1e-5)
        assert alone.mass == pytest.approx(batched.mass, abs=1e-5)


def test_the_processor_is_loaded_by_who_asks_and_not_on_the_engines_loop(
    engine, vlm_folder, tmp_path, pictures, monkeypatch
):
    """It imports much of transformers, for which every other reward's answer would wait."""
    weights, threads = str(shutil.copytree(vlm_folder, tmp_path / "vlm")), []
    make = AutoProcessor.from_pretrained

    def noted(*args, **options):
        threads.append(threading.current_thread())
        return make(*args, **options)

    monkeypatch.setattr(AutoProcessor, "from_pretrained", noted)
    reward = load("checklist", judge=weights, questions={"red": SHORT}, min_mass=0.0)
    assert not threads, "a reward that is only listed loads nothing"
    assert engine.score([Sample(image=pictures[0], prompt="a")], reward)["checklist"][0].ok
    assert threads == [threading.current_thread()]


def test_an_earlier_picture_leaves_no_trace(engine, vlm_folder, pictures):
    """Trap: transformers keeps rope_deltas of the last prefill on the module."""
    vlm = models.vlm(vlm_folder)
    first = engine.run(vlm.write(Media(pictures[3]), SHORT, max_tokens=6))
    engine.run(vlm.read((Media(pictures[1]), Media(pictures[2])), LONG, ("yes", "no")))
    vlm.network.module.model.rope_deltas = torch.full((1, 1), 1000)
    engine.cache.clear()
    assert engine.run(vlm.write(Media(pictures[3]), SHORT, max_tokens=6)) == first


def test_packed_rows_stay_apart_only_with_four_position_rows_and_no_cache(naive):
    """Trap: packing under SDPA needs use_cache=False and the text's own positions in row 0; it then is
    exact."""
    model, processor, _ = naive
    if model.config.model_type == "qwen3_5":
        pytest.skip("a recurrent layer carries one row's state into the next")
    texts = ["is there a red circle", "how many shapes", "yes or no"]
    rows = [processor.tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
    positions = torch.cat([torch.arange(row.shape[1]) for row in rows]).expand(4, 1, -1)
    with torch.no_grad():
        packed = model.model.language_model(
            input_ids=torch.cat(rows, dim=1), position_ids=positions, use_cache=False
        ).last_hidden_state
        start = 0
        for row in rows:
            alone = model.model.language_model(input_ids=row, use_cache=False).last_hidden_state
            torch.testing.assert_close(packed[:, start : start + row.shape[1]], alone, atol=1e-4, rtol=0)
            start += row.shape[1]


def test_greedy_writing_matches_generate(engine, vlm_folder, naive, pictures):
    model, processor, inputs = naive
    model.model.rope_deltas = None
    with torch.no_grad():
        ids = model.generate(**inputs([pictures[3]], SHORT), max_new_tokens=12, do_sample=False)
    prompt = inputs([pictures[3]], SHORT)["input_ids"].shape[1]
    want = processor.tokenizer.decode(ids[0, prompt:], skip_special_tokens=False)
    got = engine.run(models.vlm(vlm_folder).write(Media(pictures[3]), SHORT, max_tokens=12))
    assert want.startswith(got.text) and (got.finished or got.tokens == 12)


@pytest.mark.parametrize("at", [None, 0, 8])
def test_what_was_said_before_is_read(engine, vlm_folder, naive, pictures, at):
    """Two pictures, a question answered and a second one, with a picture of its own or without: as the chat
    template puts it."""
    model, processor, _ = naive
    model.model.rope_deltas = None
    later = [SHORT] if at is None else [text for text in (SHORT[:at], None, SHORT[at:]) if text != ""]
    said = [
        ("user", [*({"type": "image"} for _ in range(2)), {"type": "text", "text": LONG}]),
        ("assistant", [{"type": "text", "text": "I see noise."}]),
        ("user", [{"type": "image"} if one is None else {"type": "text", "text": one} for one in later]),
    ]
    messages = [{"role": role, "content": content} for role, content in said]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    shown = [pictures[0], pictures[3]]
    extra = [] if at is None else [pictures[2]]
    inputs = processor(text=[text], images=shown + extra, return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    want = processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=False)
    vlm, media = models.vlm(vlm_folder), tuple(map(Media, shown))
    history = [Turn(LONG, "I see noise.", tuple(map(Media, extra)), at or 0)]
    got = engine.run(vlm.write(media, SHORT, max_tokens=12, history=history))
    assert want.startswith(got.text) and (got.finished or got.tokens == 12)
    asks = [
        Ask(media, SHORT, "", tuple(history)),
        Ask(media, SHORT),
        Ask(media, SHORT, "", (Turn(LONG, "No."),)),
    ]
    assert len({ask.key for ask in asks}) == 3


def test_a_picture_s_place_in_what_was_said_before_is_refused(engine, vlm_folder, naive, pictures):
    history = [Turn(f"Look {naive[1].image_token}", "Yes.")]
    with pytest.raises(Unscorable, match="stands for a picture"):
        engine.run(models.vlm(vlm_folder).write(Media(pictures[0]), SHORT, history=history))


def test_writing_in_a_batch_equals_writing_alone(engine, vlm_folder, pictures):
    vlm = models.vlm(vlm_folder)
    jobs = [(pictures[0], SHORT, 9, 0.0), (pictures[1], LONG, 5, 1.0), (pictures[3], SHORT, 12, 0.7)]

    def call(picture, text, limit, temperature):
        return vlm.write(Media(picture), text, max_tokens=limit, temperature=temperature, seed=7)

    together = gather(engine, *(call(*job) for job in jobs))
    for job, batched in zip(jobs, together, strict=True):
        engine.cache.clear()
        assert engine.run(call(*job)) == batched


def test_seeds_change_samples_and_repeat_them(engine, vlm_folder, pictures):
    vlm = models.vlm(vlm_folder)

    def sample(seed):
        engine.cache.clear()
        return engine.run(vlm.write(Media(pictures[0]), SHORT, max_tokens=12, temperature=2.0, seed=seed))

    assert sample(1) == sample(1) and len({sample(seed).text for seed in range(4)}) > 1


def test_logprob_sums_the_continuation_and_agrees_with_read(engine, vlm_folder, naive, pictures):
    vlm = models.vlm(vlm_folder)
    answer = "yes, a red circle"
    logprobs = naive_logprobs(naive, [pictures[3]], SHORT, answer)
    ids = naive[2]([pictures[3]], SHORT, answer)["input_ids"][0]
    span = len(naive[1].tokenizer.encode(answer, add_special_tokens=False))
    want = sum(float(logprobs[i - 1, ids[i]]) for i in range(len(ids) - span, len(ids)))
    long, word = gather(
        engine, vlm.logprob(Media(pictures[3]), SHORT, answer), vlm.logprob(Media(pictures[3]), SHORT, "yes")
    )
    assert (long.tokens, word.tokens) == (span, 1)
    assert long.total == pytest.approx(want, abs=1e-3)
    yes = naive[2]([pictures[3]], SHORT, "yes")["input_ids"][0, -1]
    first = float(naive_logprobs(naive, [pictures[3]], SHORT)[-1][yes])
    assert word.total == pytest.approx(first, abs=1e-3)


def test_logprob_after_a_given_beginning_is_the_rest_of_the_whole(engine, vlm_folder, naive, pictures):
    """What is given is read and not scored; each token's log-probability and the certainty come along."""
    vlm = models.vlm(vlm_folder)
    given, rest = "yes, a red circle. ", "two shapes"
    whole = given + rest
    logprobs = naive_logprobs(naive, [pictures[3]], SHORT, whole)
    ids = naive[2]([pictures[3]], SHORT, whole)["input_ids"][0]
    media = Media(pictures[3])
    after, alone, first = gather(
        engine,
        vlm.logprob(media, SHORT, rest, given=given),
        vlm.logprob(media, SHORT, rest),
        vlm.logprob(media, SHORT, whole),
    )
    rows = range(len(ids) - after.tokens, len(ids))
    assert after.each == pytest.approx([float(logprobs[i - 1, ids[i]]) for i in rows], abs=1e-3)
    assert after.total == pytest.approx(sum(after.each), abs=1e-4)
    want = -float(logprobs[[i - 1 for i in rows]].mean()) - math.log(logprobs.shape[-1])
    assert after.certainty == pytest.approx(want, abs=1e-3) and want > 0
    assert first.tokens > after.tokens and first.each[-after.tokens :] == pytest.approx(after.each, abs=1e-3)
    assert after.total != pytest.approx(alone.total, abs=1e-3), "the beginning must be read"


def test_an_empty_continuation_is_refused(engine, vlm_folder, pictures):
    with pytest.raises(Unscorable, match="continuation"):
        engine.run(models.vlm(vlm_folder).logprob(Media(pictures[0]), SHORT, ""))


@pytest.mark.parametrize("penalty", [3.0, 0.7])
def test_the_repetition_penalty_of_a_checkpoint_is_that_of_generate(
    engine, vlm_folder, naive, pictures, tmp_path, penalty
):
    folder = with_generation(vlm_folder, tmp_path, repetition_penalty=penalty)
    model, processor, inputs = naive
    vlm, wanted = models.vlm(folder), []
    questions = [SHORT, "How many circles are there?", "Is it red, or blue, or red?"]
    for question in questions:
        asked = inputs([pictures[0]], question)
        model.model.rope_deltas = None
        ids = model.generate(**asked, max_new_tokens=24, do_sample=False, repetition_penalty=penalty)
        written = ids[0, asked["input_ids"].shape[1] :]
        wanted.append(processor.tokenizer.decode(written, skip_special_tokens=False))
    media = Media(pictures[0])
    got = gather(engine, *(vlm.write(media, question, max_tokens=24) for question in questions))
    plain = gather(engine, *(models.vlm(vlm_folder).write(media, q, max_tokens=24) for q in questions))
    end = processor.tokenizer.eos_token
    assert [one.text for one in got] == [text.removesuffix(end) for text in wanted]
    # Below 1 it draws words that are there already; words that do not recur are not pushed away.
    assert penalty > 1 or [one.text for one in got] != [one.text for one in plain]


def test_other_shapes_of_answers_are_refused_in_one_line(engine, vlm_folder, tmp_path, pictures):
    folder = with_generation(vlm_folder, tmp_path, no_repeat_ngram_size=3)
    with pytest.raises(ValueError, match="sets no_repeat_ngram_size, which is not followed"):
        engine.run(models.vlm(folder).write(Media(pictures[0]), SHORT, max_tokens=4))


def with_generation(folder, tmp_path, **settings):
    copy = shutil.copytree(folder, tmp_path / "copy")
    file = copy / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return str(copy)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(("yes",), "two or more"), (("yes", "red circle"), "not one token"), (("yes", "Yes"), "share a token")],
)
def test_labels_that_cannot_be_told_apart_are_refused(engine, vlm_folder, pictures, labels, message):
    with pytest.raises(ValueError, match=message):
        engine.run(models.vlm(vlm_folder).read(Media(pictures[0]), SHORT, labels))


def test_cost_counts_the_image_tokens_the_processor_makes(vlm_folder, naive, pictures):
    vlm = models.vlm(vlm_folder)
    for picture in pictures:
        ids = naive[2]([picture], "?")["input_ids"][0]
        image_tokens = int((ids == naive[0].config.image_token_id).sum())
        cost = vlm.network.cost("read", Item(Ask((Media(picture),), "?"), vlm.view, None))
        assert (cost.tokens, cost.shared) == (image_tokens + 24, image_tokens + 8)


def test_a_picture_two_hundred_times_wider_than_high_fails_alone(engine, vlm_folder, pictures):
    from PIL import Image

    vlm = models.vlm(vlm_folder)

    async def work():
        strip = Media(Image.new("RGB", (402, 2)))
        calls = (vlm.read(media, SHORT, ("yes", "no")) for media in (strip, Media(pictures[0])))
        return await asyncio.gather(*calls, return_exceptions=True)

    bad, good = engine.run(work())
    assert isinstance(bad, ValueError) and "aspect ratio" in str(bad) and 0 <= good.mass <= 1


@pytest.mark.parametrize(
    "size", [(1000, 6), (6, 1000), (199, 1), (640, 5), (64, 64), (300, 40), (2000, 1500)]
)
def test_thin_pictures_with_few_pixels_are_sized_as_transformers_does(engine, vlm_folder, size):
    from PIL import Image
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    vlm = models.vlm(vlm_folder, min_pixels=256, max_pixels=1024)
    vision, media = vlm.network.vision, Media(Image.new("RGB", size, "red"))
    got = vision.size(media, vlm.view)
    assert min(got) >= vision.factor
    if min(size) >= vision.factor / 2:
        assert got == smart_resize(*size[::-1], factor=vision.factor, min_pixels=256, max_pixels=1024)
    assert 0 <= engine.run(vlm.read(media, SHORT, ("yes", "no"))).mass <= 1


def test_max_pixels_is_part_of_the_fingerprint_and_of_the_cost(vlm_folder, pictures):
    wide = models.vlm(vlm_folder, max_pixels=128 * 128)
    usual = models.vlm(vlm_folder)
    assert wide.fingerprint != usual.fingerprint
    assert wide.network is usual.network, "the weights are loaded once"
    ask = Ask((Media(pictures[2].resize((300, 300))),), "?")
    tokens = [vlm.network.cost("read", Item(ask, vlm.view, None)).tokens for vlm in (wide, usual)]
    assert tokens[0] > tokens[1]


def test_a_default_spelled_out_is_the_same_network(vlm_folder):
    assert models.vlm(vlm_folder) is models.vlm(vlm_folder, dtype="float32", max_pixels=None)
    assert models.vlm(vlm_folder) is not models.vlm(vlm_folder, dtype="bfloat16")


def test_an_answer_that_breaks_its_schema_is_typed(engine, vlm_folder, pictures):
    vlm = models.vlm(vlm_folder)
    schema = {"type": "object", "required": ["score"]}
    with pytest.raises(Unscorable) as caught:
        engine.run(vlm.write(Media(pictures[0]), SHORT, max_tokens=4, schema=schema))
    assert caught.value.status == "unparsable"
    with pytest.raises(ValueError, match="schema"):
        engine.run(vlm.write(Media(pictures[0]), SHORT, schema={"type": "nonsense"}))


def test_a_prompt_beyond_the_context_fails_alone(engine, vlm_folder, pictures):
    """Past its context a model still answers; the others of the batch get theirs."""
    vlm = models.vlm(vlm_folder)
    media, labels = Media(pictures[0]), ("yes", "no")
    most = vlm.network.config.get_text_config().max_position_embeddings

    async def ask(question):
        try:
            return await vlm.read(media, question, labels)
        except Unscorable as failure:
            return failure

    alone = engine.run(vlm.read(media, SHORT, labels))
    engine.cache.clear()
    fine, refused = gather(engine, ask(SHORT), ask("is it? " * most))
    assert fine.probs["yes"] == pytest.approx(alone.probs["yes"], abs=1e-5)
    assert refused.status == "error" and f"reads at most {most}" in str(refused)
