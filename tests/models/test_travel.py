"""Networks travel as how they were made; the weights are loaded where they arrive."""

import pickle

import pytest

from mmreward import Media, Sample, load, models


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.clip("mini-clip").network,
        lambda: models.vlm("mini-vlm").network,
        lambda: models.classifier("mini-artifact"),
    ],
)
def test_a_pickled_network_is_small_and_the_same(engine, make):
    network = make()
    _ = network.processing, network.module  # what is loaded stays here
    payload = pickle.dumps(network)
    there = pickle.loads(payload)
    assert len(payload) < 1000
    assert there.fingerprint == network.fingerprint and there.name == network.name
    assert there._module is None and there.options == network.options


def test_a_remade_network_gives_the_same_numbers(engine, pictures):
    network = models.classifier("mini-artifact")
    there = pickle.loads(pickle.dumps(network))
    engine.cache.clear()
    media = Media(pictures[3])
    assert engine.run(network.probabilities(media)) == engine.run(there.probabilities(media))


def test_a_head_takes_its_encoder_along(tmp_path, clip_folder):
    import numpy as np
    from safetensors.numpy import save_file

    save_file(
        {"weight": np.ones((1, 24), np.float32), "bias": np.zeros(1, np.float32)},
        tmp_path / "head.safetensors",
    )
    head = models.head(str(tmp_path / "head.safetensors"), clip_folder)
    there = pickle.loads(pickle.dumps(head))
    assert (there.fingerprint, there.encoder.fingerprint) == (head.fingerprint, head.encoder.fingerprint)


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    payload = pickle.dumps(models.classifier(str(tmp_path)))
    assert pickle.loads(payload).name == str(tmp_path)
    (tmp_path / "config.json").write_text('{"other": 1}')
    with pytest.raises(ValueError, match="not those it was sent from"):
        pickle.loads(payload)


def test_a_name_that_is_not_on_this_machine_is_compared_with_nothing():
    there = pickle.loads(pickle.dumps(models.clip("somebody/not-downloaded")))
    assert there.name == "somebody/not-downloaded"


def test_a_reward_travels_with_its_networks_and_scores_the_same(engine, pictures):
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    reward = load("clipscore", weights="mini-clip")
    there = cloudpickle.loads(cloudpickle.dumps(reward))
    sample = Sample(prompt="a red circle", image=Media(pictures[3]))
    ours, theirs = (engine.score([sample], {"score": one})["score"] for one in (reward, there))
    assert ours == theirs and ours[0].ok
    assert there.networks[0] is not reward.networks[0] and there.fingerprint == reward.fingerprint
