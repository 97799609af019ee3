"""Stand-ins, in our own words, for texts that others published and that are fetched and not kept here."""

import json

COLOURS = ("red", "blue", "green", "yellow", "white", "black")
SHAPES = ("circle", "square", "triangle")
ABOUT = [f"Is there a {colour} {shape}?" for colour in COLOURS for shape in SHAPES]


def write_questions(folder):
    """Files in VisionReward's forms: arguments of `visionreward` and of `visionreward_video`."""
    image = ["Is there a circle?", "Is there a square?", "Is there a triangle? ", *ABOUT, *ABOUT[:9]]
    video = [f'Does it show "[[prompt]]" {word}?' for word in ("wholly", "mostly", "at all")]
    video += [*ABOUT, *ABOUT[:8]]
    coef = [2.3, *(0.01 * place for place in range(1, 28))]
    files = {
        "image.txt": "\n".join(image),
        "image.json": json.dumps({"coef": [2.3, *(x / 2 for x in coef[1:])], "intercept": [0.125]}),
        "video.txt": "\n".join(video) + "\n",
        "video.json": json.dumps([0.01 * place for place in range(1, 30)]),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return tuple(
        {"questions": str(folder / f"{kind}.txt"), "coefficients": str(folder / f"{kind}.json")}
        for kind in ("image", "video")
    )
