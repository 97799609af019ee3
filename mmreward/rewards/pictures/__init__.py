"""Picture rewards that need no judge: the text that is written, what is shown, and how pixels look.

`ocr_image` reads a picture (RapidOCR) and compares it with the text that was asked for. `nsfw` is the absence
of exposed bodies (NudeNet). Both run on the CPU with weights out of their packages' wheels. `jpeg` (the size
of the file) and `guards` (sharpness, colours, edges, darkness) are measures of pixels: guards beside a reward
that sees only text or only beauty, and held out, a sign that a run goes wrong.

`blip_vqa`, `geneval` and `geneval2` ask whether a picture holds what its prompt names, by published rules;
`visionreward` asks a list of questions about how good a picture or a clip is.
"""
