"""Detectors from tiny random checkpoints, against a second writing of mmdet's and DETR's post-processing;
GenEval on top of them.
"""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmreward import Media, Sample, load, models
from mmreward.models.detectors import Sighting
from mmreward.rewards.pictures.geneval import COLOUR_PROMPTS, crop_of
from mmreward.verifiers.geneval import COLOURS

LABELS = {0: "person", 1: "sofa", 2: "mouse"}
SIZES = [(48, 48), (90, 40), (33, 120), (48, 48), (640, 427)]
"""(width, height)."""


def picture(size, seed):
    small = np.random.default_rng(seed).integers(0, 256, (-(-size[1] // 8), -(-size[0] // 8), 3))
    return Image.fromarray(small.astype(np.uint8)).resize(size)


PICTURES = [picture(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def mask2former(tmp_path_factory):
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    torch.manual_seed(3)
    stages = [f"stage{number}" for number in (1, 2, 3, 4)]
    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=stages,
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=12,
        id2label=LABELS,
        label2id={label: index for index, label in LABELS.items()},
    )
    folder = tmp_path_factory.mktemp("mask2former")
    network = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():  # else every query would be as sure of nothing as all others
        network.class_predictor.weight.mul_(40)
    network.save_pretrained(folder)
    sides = {"shortest_edge": 64, "longest_edge": 107}
    Mask2FormerImageProcessor(size=sides, size_divisor=32, ignore_index=255).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def detr(tmp_path_factory):
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    torch.manual_seed(4)
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=7,
        id2label=LABELS,
        label2id={label: index for index, label in LABELS.items()},
    )
    folder = tmp_path_factory.mktemp("detr")
    network = DetrForObjectDetection(config).eval()
    with torch.no_grad():
        network.class_labels_classifier.weight.mul_(40)
    network.save_pretrained(folder)
    DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 107}).save_pretrained(folder)
    return str(folder)


def seen(engine, folder, images, least=0.05):
    network = models.detector(folder)

    async def all_of_them():
        from asyncio import gather

        return await gather(*(network.objects(Media(image), least) for image in images))

    return engine.run(all_of_them())


def second_masks(folder, image):
    """mmdet 2's `instance_postprocess` and `mask2bbox`, all masks at full size."""
    from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

    network = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()
    inputs = AutoImageProcessor.from_pretrained(folder)(images=image, return_tensors="pt")
    with torch.no_grad():
        out = network(pixel_values=inputs["pixel_values"])
    height, width = (int(inputs["pixel_mask"][0].any(axis).sum()) for axis in (1, 0))
    masks = F.interpolate(out.masks_queries_logits, inputs["pixel_values"].shape[-2:], mode="bilinear")
    masks = F.interpolate(masks[..., :height, :width], image.size[::-1], mode="bilinear")[0]
    scores = out.class_queries_logits[0].softmax(-1)[:, :-1].flatten()
    found = []
    for place in scores.topk(min(100, len(scores))).indices.tolist():
        mask = masks[place // 3]
        solid = (mask > 0).float()
        score = scores[place] * (mask.sigmoid() * solid).sum() / (solid.sum() + 1e-6)
        if score > 0.05:
            ys, xs = torch.where(mask > 0)
            box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
            found.append((LABELS[place % 3], box, float(score), (mask > 0).numpy()))
    return sorted(found, key=lambda one: -one[2])


def test_a_mask2former_is_read_as_mmdet_reads_it(engine, mask2former):
    engine.cache.clear()
    number = 0
    for image, look in zip(PICTURES, seen(engine, mask2former, PICTURES), strict=True):
        wanted = second_masks(mask2former, image)
        assert look.labels == ("person", "sofa", "mouse") and len(look.found) == len(wanted)
        for one, (label, box, score, mask) in zip(look.found, wanted, strict=True):
            assert (one.label, one.box) == (label, box) and one.score == pytest.approx(score, abs=1e-5)
            x1, y1, x2, y2 = box
            assert (one.inside() == mask[y1:y2, x1:x2]).all()
            number += 1
    assert number > 20


def test_a_model_of_boxes_is_read_as_its_processor_reads_it(engine, detr):
    from transformers import AutoImageProcessor, DetrForObjectDetection

    network, processor = (
        DetrForObjectDetection.from_pretrained(detr).eval(),
        AutoImageProcessor.from_pretrained(detr),
    )
    engine.cache.clear()
    for image, look in zip(PICTURES, seen(engine, detr, PICTURES), strict=True):
        with torch.no_grad():
            out = network(**processor(images=image, return_tensors="pt"))
        (wanted,) = processor.post_process_object_detection(out, 0.05, target_sizes=[image.size[::-1]])
        order = wanted["scores"].argsort(descending=True)
        assert len(look.found) == len(order) > 0
        for one, place in zip(look.found, order.tolist(), strict=True):
            assert one.label == LABELS[int(wanted["labels"][place])] and one.inside() is None
            assert one.score == pytest.approx(float(wanted["scores"][place]), abs=1e-5)
            limits = np.array([*image.size, *image.size])
            box = np.clip(wanted["boxes"][place].numpy(), 0, limits)
            np.testing.assert_allclose(one.box, box, atol=1e-2)


@pytest.mark.parametrize("kind", ["mask2former", "detr"])
def test_a_detector_in_any_batch(engine, request, kind):
    folder = request.getfixturevalue(kind)
    engine.cache.clear()
    together = seen(engine, folder, PICTURES)
    for image, wanted in zip(PICTURES, together, strict=True):
        engine.cache.clear()
        (alone,) = seen(engine, folder, [image])
        assert [one.label for one in alone.found] == [one.label for one in wanted.found]
        for one, other in zip(alone.found, wanted.found, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            np.testing.assert_allclose(one.box, other.box, atol=1e-2)


def test_the_least_score_only_drops_objects(engine, mask2former):
    (every,), (few,) = (seen(engine, mask2former, PICTURES[:1], least) for least in (0.0, 0.3))
    kept = [one for one in every.found if one.score > 0.3]
    assert 0 < len(few.found) < len(every.found)
    assert [(one.label, one.box) for one in few.found] == [(one.label, one.box) for one in kept]


def test_detectors_are_shown_rgb_and_pictures_that_stand_upright(engine, mask2former):
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    ((batch,),) = [models.detector(mask2former).prepare("objects", [Sighting(Media(red), 0.0)])]
    means = batch.pixels[0].mean((1, 2))
    assert means[0] > 2 and means[1] < -1 and means[2] < -1  # (1 - 0.485) / 0.229, and -mean / std
    lying = PICTURES[4].transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter to the right
    file = io.BytesIO()
    lying.save(file, "PNG", exif=exif)
    upright, turned = seen(engine, mask2former, [PICTURES[4], file.getvalue()])
    assert [one.box for one in upright.found] == [one.box for one in turned.found] and upright.found


# --- colours --------------------------------------------------------------------------------------------


def test_a_colour_is_asked_of_the_object_alone(engine, mask2former):
    (look,) = seen(engine, mask2former, PICTURES[4:])
    pixels = np.asarray(PICTURES[4])
    masked = next(one for one in look.found if 0 < one.inside().mean() < 1)
    full = np.zeros(pixels.shape[:2], dtype=bool)
    x1, y1, x2, y2 = masked.box
    full[y1:y2, x1:x2] = masked.inside()
    blank = Image.new("RGB", PICTURES[4].size, "#999")
    wanted = Image.composite(PICTURES[4], blank, Image.fromarray(full)).crop(masked.box)
    assert (crop_of(pixels, masked) == np.asarray(wanted)).all()
    bare = masked._replace(box=(10.5, 11.5, 20.4, 30.6), mask=None)
    assert (crop_of(pixels, bare) == np.asarray(PICTURES[4].crop(bare.box))).all()
    flat = masked._replace(box=(640.0, 5.0, 640.0, 9.0), mask=None)
    assert crop_of(pixels, flat).shape == (4, 1, 3)


def second_colours(clip_folder, crops, name):
    """clip_benchmark's zero-shot classifier in plain transformers calls."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    from mmreward.models.base import pooled

    network = CLIPModel.from_pretrained(clip_folder).eval()
    processor = AutoImageProcessor.from_pretrained(clip_folder, backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    columns = []
    with torch.no_grad():
        for colour in COLOURS:
            forms = [form.format(colour=colour, name=name) for form in COLOUR_PROMPTS]
            tokens = tokenizer(forms, padding=True, return_tensors="pt")
            mean = F.normalize(pooled(network.get_text_features(**tokens)), dim=-1).mean(0)
            columns.append(mean / mean.norm())
        pixels = processor(images=crops, return_tensors="pt")["pixel_values"]
        images = F.normalize(pooled(network.get_image_features(pixel_values=pixels)), dim=-1)
    return [COLOURS[index] for index in (100 * images @ torch.stack(columns).T).argmax(1).tolist()]


def test_geneval_on_published_formats(engine, mask2former, clip_folder):
    """Number, class and colour of the surest objects, by a second writing of detector and colours."""
    reward = load("geneval", detector=mask2former, encoder=clip_folder, threshold=0.2, counting=0.2)
    names = {"person": "person", "sofa": "couch", "mouse": "computer mouse"}
    engine.cache.clear()
    checked = 0
    for image in PICTURES:
        sure = [one for one in second_masks(mask2former, image) if one[2] > 0.2]
        for label, name in names.items():
            found = [one for one in sure if one[0] == label][:16]
            if not found:
                continue
            grey = Image.new("RGB", image.size, "#999")
            crops = [
                Image.composite(image, grey, Image.fromarray(mask)).crop(box) for _, box, _, mask in found
            ]
            colours = second_colours(clip_folder, crops, name)
            for number, colour in ((1, colours[0]), (len(found), colours[-1]), (len(found) + 1, "red")):
                clause = {"class": name, "count": number, "color": colour}
                sample = Sample(image=Media(image), meta={"tag": "color_attr", "include": [clause]})
                (score,) = engine.score([sample], reward)["geneval"]
                right = number <= len(found) and colours[:number].count(colour) == number
                assert score.value == right and score.parts["count"] == max(
                    0, 1 - abs(len(found) - number) / number
                )
                if number == len(found):
                    assert score.parts["colour"] == colours.count(colour) / number
                checked += 1
    assert checked > 10


def test_a_class_that_the_checkpoint_does_not_know_names_the_nearest(engine, mask2former, clip_folder):
    reward = load("geneval", detector=mask2former, encoder=clip_folder)
    meta = {"tag": "counting", "include": [{"class": "mouse", "count": 1}]}
    sample = Sample(image=Media(PICTURES[0]), meta=meta)
    (score,) = engine.score([sample], reward)["geneval"]
    assert score.status == "error" and "did you mean 'computer mouse'" in score.note
