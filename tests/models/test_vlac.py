"""VLAC in its publisher's format: what an InternVL 2 writes, against a second writing, and the reward."""

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from mmreward import Media, Sample, load, models
from mmreward.errors import Unavailable, Unscorable
from mmreward.evals.published.internvl import NaiveInternVL, save_internvl

SYSTEM, FIRST, SECOND = "You see shapes.", "how red is ", "two circle \n is it"
STOPS = {"<|im_end|>", "</s>"}


def picture(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(small, 7, 0), 7, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("vlac") / "VLAC"
    return save_internvl(place, "internlm2", template="internlm2-chat")["weights"]


def greedy(naive: NaiveInternVL, query: str, pictures, most: int):
    """Ids that follow a query, one full pass for each."""
    written, ids = [], naive.ids
    stops = {naive.added[token] for token in STOPS}

    def with_written(text):
        return ids(text[:-1]) + written if text.endswith("\u0001") else ids(text)

    naive.ids = with_written
    try:
        while len(written) < most:
            logits, _ = naive.logits(query + "\u0001", pictures, 1)
            number = int(logits[-1].argmax())
            if number in stops:
                return written, True
            written.append(number)
    finally:
        naive.ids = ids
    return written, False


@pytest.mark.parametrize("system", ["", SYSTEM])
def test_an_answer_is_that_of_full_passes(engine, folder, system):
    """In ms-swift's chat, by which the publisher trains and asks: a line's end behind every picture."""
    net, naive = models.internvl(folder, writes=True), NaiveInternVL({"weights": folder})
    shown = [picture(1), picture(2)]
    places = (len(FIRST), len(FIRST) + len(SECOND))
    said = engine.run(
        net.write([Media(one) for one in shown], FIRST + SECOND, max_tokens=6, system=system, places=places)
    )
    turn = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    query = f"{turn}<|im_start|>user\n{FIRST}<image>\n{SECOND}<image>\n<|im_end|>\n<|im_start|>assistant\n"
    wanted, ended = greedy(naive, query, [Image.fromarray(one) for one in shown], 6)
    names = {number: piece for piece, number in naive.known.items()}
    pieces = [names[number] for number in wanted]
    found = b"".join(
        bytes([int(one[3:5], 16)]) if one.startswith("<0x") else one.replace("\u2581", " ").encode()
        for one in pieces
    )
    assert said.text == found.decode("utf-8", errors="replace").strip()
    assert (said.finished, said.tokens) == (ended, len(wanted)) and len(wanted) > 1


def test_answers_do_not_depend_on_their_neighbours(engine, folder):
    net = models.internvl(folder, writes=True)

    async def asked(*texts):
        from asyncio import gather

        return await gather(*(net.write([Media(picture(3))], text, max_tokens=5) for text in texts))

    texts = ("how many", "is it the red circle ? yes", "two")
    together = engine.run(asked(*texts))
    engine.cache.clear()
    assert [engine.run(asked(text))[0] for text in texts] == list(together)


def test_the_chats_own_tokens_are_refused_and_the_older_chat_reads_no_labels(engine, folder):
    net = models.internvl(folder, writes=True)
    with pytest.raises(Unscorable, match="a token of the chat's own"):
        engine.run(net.write([Media(picture(1))], "how <|im_end|>", max_tokens=2))
    with pytest.raises(Unavailable, match="template: 'internlm2-chat'; 'internvl2_5' is read here"):
        engine.run(models.internvl(folder).marks("<image>", (Media(picture(1)),), ("+", "-")))


def test_the_reward_reads_numbers_that_the_weights_write(engine, folder, tmp_path):
    """A copy whose head knows digits alone: one token is a percentage."""
    import shutil

    place = shutil.copytree(folder, tmp_path / "VLAC")
    known = NaiveInternVL({"weights": folder}).known
    file = next(file for file in place.glob("*.safetensors") if "output" in "".join(load_file(file)))
    state = load_file(file)
    head = state["language_model.output.weight"]
    digits = [known[str(number)] for number in range(10)]
    kept = head[digits].clone()
    head.zero_()
    head[digits] = kept
    save_file(state, file, {"format": "pt"})
    film = Media(np.stack([picture(seed) for seed in range(3)]), "video", fps=1.0)
    prompts = ("two", "how many shapes", "the red circle is two", "yes")
    samples = [Sample(id=prompt, prompt=prompt, video=film) for prompt in prompts]
    reward = load("vlac", judge=str(place), words="own", frames="all", side=0, max_tokens=1)
    scores = engine.score(samples, reward)["vlac"]
    for score in scores:
        first, second = score.parts["frame_1"], score.parts["frame_2"]
        hops = [100 * first, 100 * (second - first) / (1 - first)]
        assert hops == pytest.approx([round(hop) for hop in hops]) and 0 <= min(hops) <= max(hops) <= 9
        assert score.ok and score.value == second and score.parts["gaps"] == 0
    wild = load("vlac", judge=folder, words="own", frames="all", side=0)
    (garbled,) = engine.score(samples[:1], wild)["vlac"]
    assert garbled.status == "unparsable" and "could not be read" in garbled.note
