"""placeholder, being written"""
QUESTION = "Does this picture contain visible artifacts such as noise, distortion or broken shapes? Answer yes or no."
