import torch
from clip_pipelines import PROMPTS, wan
from mmreward.generators.wan import Wan
from mmreward.tune.sampling import sample

SIZE = {"height": 64, "width": 64, "frames": 9}


def test_x():
    import time
    t=time.time()
    pipe = wan()
    print("build", time.time()-t); t=time.time()
    generator = Wan(pipe, **SIZE)
    with torch.no_grad():
        ours = sample(generator, PROMPTS, [1, 2], steps=3, guidance=4.0)
    print("ours", time.time()-t); t=time.time()
    theirs = pipe(PROMPTS, height=64, width=64, num_frames=9, num_inference_steps=3, guidance_scale=4.0, generator=[torch.Generator().manual_seed(s) for s in (1, 2)], output_type="pt").frames
    print("theirs", time.time()-t, ours.shape, ours.std(), (ours-theirs).abs().max())
