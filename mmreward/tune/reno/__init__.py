"""ReNO: optimising the noise a picture starts from (https://arxiv.org/abs/2406.04312)."""
