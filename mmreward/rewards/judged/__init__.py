"""Judged rewards: a vision-language model answers questions about a picture or about a response.

Of pictures: `checklist`, `critique` (marks as `aspects` reads them, other modes in `modes`), `preference`
(two pictures, asked as in `asking`, other modes in `pair_modes`). Of a response's reasoning: `listener`,
`evidence`, `thinking`, `steps`, and `likelihood`, which reads probabilities of given texts. A judge that says
nothing readable is a failure and no mark; a response that says nothing readable is worth 0.
"""
