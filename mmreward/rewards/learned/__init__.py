"""Learned rewards: networks that score pictures, clips, edits and responses.

Dual encoders (`clip`: CLIPScore and three rewards built on it), scorers by the names they were published
under (`pickscore`, `hpsv2`, `aesthetic`), a head that you fit on your own pairs (`head`), a classifier of
artifacts (`artifact`), and the saturation of colours (`saturation`), which has no network and shows whether
one is gamed. Most are differentiable. Heads on the body of a Qwen-VL: of pictures (`hpsv3`), clips
(`videoreward`), edits (`editreward`), responses (`skywork_vl`). Bodies of
other makers: responses (`ixc`), their steps (`visualprm`) and after a critique (`mm_rlhf`), pictures
(`artimuse`, `deqa`).
"""
