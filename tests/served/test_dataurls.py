"""Pictures arrive at a server as they are: no pixel differs from what a reward in this process sees."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from support.chatserver import Reply, completion, wait_until

from mmreward import Media, Unscorable
from mmreward.models.served import client
from mmreward.models.served.chat import data_url, fitted

RNG = np.random.default_rng(1)
NOISE = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(picture, form, **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def opened(url):
    head, _, data = url.partition(",")
    return head, base64.b64decode(data)


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(NOISE), "JPEG", exif=exif)


ALPHA = Image.fromarray(np.dstack([NOISE, NOISE[..., :1]]))
OWN = {
    "png": encoded(Image.fromarray(NOISE), "PNG"),
    "jpeg": encoded(Image.fromarray(NOISE), "JPEG", quality=60),
    "webp": encoded(Image.fromarray(NOISE), "WEBP", quality=60),
    "grey png": encoded(Image.fromarray(NOISE[..., 0]), "PNG"),
}
REMADE = {
    "rotated": rotated(),
    "alpha": encoded(ALPHA, "PNG"),
    "palette": encoded(Image.fromarray(NOISE).quantize(16), "PNG"),
    "gif": encoded(Image.fromarray(NOISE).quantize(16), "GIF"),
    "cmyk": encoded(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "transparent colour": encoded(Image.fromarray(NOISE), "PNG", transparency=tuple(map(int, NOISE[0, 0]))),
    "animated": encoded(
        Image.fromarray(NOISE), "PNG", save_all=True, append_images=[Image.fromarray(255 - NOISE)]
    ),
    "array": NOISE,
    "PIL": Image.fromarray(NOISE),
    "16 bit": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "PNG"),
}


@pytest.mark.parametrize("source", [*OWN.values(), *REMADE.values()], ids=[*OWN, *REMADE])
def test_the_server_sees_the_same_pixels(source):
    _, data = opened(data_url(Media(source)))
    seen = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(seen, Media(source).array())


@pytest.mark.parametrize("name", OWN)
def test_a_plain_file_is_sent_as_it_is(name, tmp_path):
    head, data = opened(data_url(Media(OWN[name])))
    assert data == OWN[name] and head == f"data:image/{name.split()[-1]};base64"
    (tmp_path / "picture").write_bytes(OWN[name])
    assert opened(data_url(Media(tmp_path / "picture")))[1] == OWN[name]


@pytest.mark.parametrize("name", REMADE)
def test_anything_else_becomes_png(name):
    assert opened(data_url(Media(REMADE[name])))[0] == "data:image/png;base64"


@pytest.mark.parametrize(("low", "high"), [(None, 300), (4000, None), (1500, 2000), (None, 10**6), (1, None)])
def test_pixel_limits_are_kept_and_proportions_too(low, high):
    height, width = fitted(24, 40, low, high)
    assert (low or 0) <= height * width <= (high or 10**9)
    assert width / height == pytest.approx(40 / 24, rel=0.12)
    picture = Image.open(io.BytesIO(opened(data_url(Media(OWN["jpeg"]), low, high))[1]))
    assert (picture.height, picture.width) == (height, width)
    assert picture.format == ("JPEG" if (height, width) == (24, 40) else "PNG")


def chat(request):
    return Reply(completion()) if request.path == "/v1/chat/completions" else Reply(b"", 404)


def test_pictures_come_before_the_words_and_the_system_first(serve, gather):
    server, vlm = serve(chat)
    first, second = Media(OWN["png"]), Media(NOISE)
    gather(vlm.write((first, second), "Which?", system="Be brief."))
    system, user = server.asked("/v1/chat/completions")[0].body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    urls = [part["image_url"]["url"] for part in user["content"][:2]]
    assert urls == [data_url(first), data_url(second)]


def test_limits_reach_the_pictures_that_are_sent(serve, gather):
    server, vlm = serve(chat, max_pixels=100)
    gather(vlm.write(Media(OWN["png"]), "?"))
    url = server.asked("/v1/chat/completions")[0].body["messages"][0]["content"][0]["image_url"]["url"]
    picture = Image.open(io.BytesIO(opened(url)[1]))
    assert picture.width * picture.height <= 100


def test_a_torn_picture_and_a_video_are_never_sent(serve, gather):
    server, vlm = serve(chat)
    torn, clip = Media(OWN["jpeg"][:300]), Media(np.zeros((3, 8, 8, 3), np.uint8), "video")
    good, *bad = gather(*(vlm.write(media, "?") for media in (Media(OWN["png"]), torn, clip)))
    assert good.text == "yes" and len(server.asked("/v1/chat/completions")) == 1
    assert all(isinstance(one, Unscorable) for one in bad) and "frames" in str(bad[1])


def test_one_picture_is_encoded_once_for_many_questions(serve, gather, monkeypatch):

    calls = []

    def counted(*args):
        calls.append(args)
        return data_url(*args)

    monkeypatch.setattr(client, "data_url", counted)
    _, vlm = serve(chat)
    gather(*(vlm.write(Media(OWN["png"]), f"{i}") for i in range(8)))
    gather(vlm.write(Media(OWN["png"]), "later"))
    assert len(calls) == 1


def test_pictures_wait_for_their_turn_unencoded(serve, engine, monkeypatch):
    """Trap: thousands of waiting calls that each hold an encoded picture fill the memory."""

    calls = []
    monkeypatch.setattr(client, "data_url", lambda *args: calls.append(args) or data_url(*args))
    server, vlm = serve(
        lambda request: Reply(never=True) if request.body else Reply(b"", 404), "?concurrency=2"
    )
    pictures = [Media(NOISE + np.uint8(i)) for i in range(20)]
    waiting = [engine._start(vlm.write(picture, "?")) for picture in pictures]
    wait_until(lambda: server.busy == 2)
    assert len(calls) == 2
    for future in waiting:
        future.cancel()
