"""placeholder, being written"""
PROMPT = """Judge how well this picture answers the request.
Request: {prompt}
For each aspect write a heading, one line of justification and a score from {low} (worst) to {high} (best), or N/A if it does not apply:
{aspects}
Use exactly this layout for every aspect:
## <aspect>
Justification: <one line>
Score: <number or N/A>"""
ASPECTS = {
    "Text faithfulness": "the picture shows everything the request names, and nothing else",
    "Visual quality": "the picture is clean and free of artifacts",
}
