"""A finished run as one self-contained HTML page: figures, agreement, best and worst, and every sample.

Finds the results and the data set and writes the file; what the page says is in page.py.
"""

import os
from pathlib import Path

from .page import NUM_EXTREME, page
from .scored import find_results, load_run, reference_column, with_data


def write_report(
    run: Path,
    out: Path | None = None,
    data: Path | None = None,
    limit: int = 64,
    reference: str | None = None,
) -> Path:
    """Write the page about a run and return where it is.

    Args:
        run: a results file (.parquet or .jsonl), or a folder with scores.parquet.
        out: the page; default report.html beside the results.
        data: the data set, when it is not where the results say; without one there are no pictures.
        limit: samples shown in the gallery; the figures are over all of them.
        reference: the reward the others are compared with; default "oracle" when the run has it.

    Raises:
        ValueError: no results, no data set at `data`, no reward `reference`, or an `out` that is no page.
    """
    if limit < 0:
        raise ValueError(f"limit {limit} is negative; 0 shows no samples")
    results = find_results(Path(run))
    target = Path(out) if out is not None else results.with_name("report.html")
    if target.suffix not in (".html", ".htm"):
        raise ValueError(f"the page goes to a .html file, not {target.name!r}")
    scored = load_run(results)
    compared = reference_column(scored, reference)
    extremes = scored.extremes(NUM_EXTREME)
    wanted = {*scored.ids[:limit], *extremes[0], *extremes[1]}
    document = page(with_data(scored, data, wanted), compared, extremes, limit)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.write_text(document, encoding="utf-8")
    part.replace(target)
    return target
