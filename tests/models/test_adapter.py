"""LoRA adapters of VLMs in peft's format, as EditScore publishes its judges: added to the base's weights."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from support.chatserver import ChatServer
from support.emulated import EmulatedVLLM
from transformers import AutoModelForImageTextToText

from mmreward import Engine, Media, load, models
from mmreward.models.wants import adapted, collecting
from mmreward.models.weights import locate

QUESTION = "Is there a red circle? Answer yes or no."


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter with random factors on the language model, written by peft itself."""
    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForImageTextToText.from_pretrained(locate("mini-vlm"), dtype=torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(folder)
    return str(folder)


def test_it_answers_as_peft_s_own_model(adapter):
    """Against the unmerged model of peft behind a server that shares no code with ours."""
    emulated = EmulatedVLLM(locate("mini-vlm"))
    emulated.model = PeftModel.from_pretrained(emulated.model, adapter).eval().base_model.model
    picture = Media(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with Engine("cpu") as engine, ChatServer(emulated) as server:
        here, plain = models.vlm(f"mini-vlm?adapter={adapter}"), models.vlm("mini-vlm")
        there = models.vlm(f"judge@{server.url}")
        mine, theirs, without = (
            engine.run(vlm.read(picture, QUESTION, ("yes", "no"))) for vlm in (here, there, plain)
        )
        assert mine.mass == pytest.approx(theirs.mass, abs=1e-4)
        assert mine.probs == pytest.approx(theirs.probs, abs=1e-4)
        assert abs(mine.probs["yes"] * mine.mass - without.probs["yes"] * without.mass) > 1e-4
        words = [engine.run(vlm.write(picture, QUESTION, max_tokens=8)) for vlm in (here, there)]
        assert words[0] == words[1]
        engine.run(there.close())
    assert here.fingerprint != plain.fingerprint


def test_settings_stand_beside_it(adapter):
    vlm = models.vlm(f"mini-vlm?max_frames=4&adapter={adapter}")
    assert vlm.view.frames == 4 and vlm.network.adapter == adapter
    assert adapted("a/b?adapter=c/d") == ("a/b", "c/d") and adapted("a/b?max_frames=4") == (
        "a/b?max_frames=4",
        "",
    )
    assert adapted("a/b@http://x:1/v1?adapter=c") == ("a/b@http://x:1/v1?adapter=c", "")


@pytest.mark.parametrize("query", ["adapter=", "adapter=a/b&adapter=c/d", "adapter=./nowhere", "adaptor=a/b"])
def test_a_mistake_is_one_line(query):
    with pytest.raises(ValueError, match=r"adapter|nowhere"):
        models.vlm(f"mini-vlm?{query}")


def test_fetch_is_told_of_base_and_adapter_by_their_names():
    with collecting() as wants:
        load("editscore", words="own")
        load("critique", judge="someone/vlm?max_frames=32")
    assert [(want.name, want.parts) for want in wants] == [
        ("Qwen/Qwen2.5-VL-7B-Instruct", ()),
        ("EditScore/EditScore-7B", ("adapter_config.json", "adapter_model.safetensors")),
        ("someone/vlm", ()),
    ]
