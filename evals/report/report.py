"""A run as one self-contained HTML page: of scores, of a training, or of a log of metrics by source.

Tells the three apart by what lies at a path, and writes the file atomically. The pages themselves are in
`page`, `training` and `sources`; that which compares several runs of scores is in `comparison`.
"""

from pathlib import Path

from mmreward.data.columns import Columns
from mmreward.data.results import ENDINGS
from mmreward.monitor.by_source import is_metrics_log

from .html import write_page
from .page import NUM_EXTREME, named_on, page
from .scored import FILES, find_results, load_run, reference_column, with_data
from .sources import sources_page

TRAINING = ("rounds.jsonl", "evaluations.jsonl")
"""Files by which the folder of a training is known."""


def write_report(
    run: Path,
    out: Path | None = None,
    data: Path | None = None,
    limit: int = 64,
    reference: str | None = None,
    columns: Columns | None = None,
) -> Path:
    """Write the page about a run and return where it is.

    Args:
        run: a results file (.parquet, .jsonl, .csv or .tsv), a folder with scores.parquet, the folder of a
            training, or a log of metrics (.jsonl).
        out: the page; default report.html in the folder of a run, else beside the results under their name:
            A.html for A.parquet.
        data: the data set, when it is not where the results say; without one there are no pictures. Of
            results of several data sets it takes the one.
        limit: samples shown in the gallery, or prompts before and after; the figures are over all of them.
        reference: the reward the others are compared with; default "oracle" when the run has it.
        columns: as the data set was scored by; default: what a Parquet file of results says.

    Raises:
        ValueError: no results, no score whose row is as it was, no data set at `data`, no reward `reference`,
            an `out` that is no page, a training without an evaluation, or `data` or `reference` for a
            training or a log, which have neither.
    """
    return write_page(out, *made(Path(run), data, limit, reference, columns))


def made(
    run: Path,
    data: Path | None = None,
    limit: int = 64,
    reference: str | None = None,
    columns: Columns | None = None,
    *,
    so_far: bool = False,
) -> tuple[Path, str]:
    """The usual place of the page about a run, and the page; arguments and errors as of `write_report`.

    Args:
        so_far: of scores that are being computed, take what is on disk.
    """
    if limit < 0:
        raise ValueError(f"limit {limit} is negative; 0 shows no samples")
    if is_metrics_log(run):
        _takes_neither("log of metrics", run, data, reference)
        return run.with_suffix(".html"), sources_page(run)
    if run.is_dir() and any((run / name).exists() for name in TRAINING):
        return _training(run, data, limit, reference)
    return _scores(run, data, limit, reference, columns, so_far)


def _training(folder: Path, data: Path | None, limit: int, reference: str | None) -> tuple[Path, str]:
    """The default place of the page, and the page."""
    from .training import training_page  # which reads what trainers write, and so imports torch
    from .training_run import load_training_run

    _takes_neither("training run", folder, data, reference)
    return folder / "report.html", training_page(load_training_run(folder), limit)


def _takes_neither(kind: str, run: Path, data: Path | None, reference: str | None) -> None:
    if data is not None or reference is not None:
        name, given = ("data", data) if data is not None else ("reference", reference)
        raise ValueError(f"{run} is a {kind}, which takes no {name} ({given}); leave it out")


def _scores(
    run: Path,
    data: Path | None,
    limit: int,
    reference: str | None,
    columns: Columns | None,
    so_far: bool,
) -> tuple[Path, str]:
    """The default place of the page, and the page."""
    results = find_results(run, so_far)
    scored = load_run(results, data, columns, so_far)
    compared = reference_column(scored, reference)
    extremes = scored.extremes(NUM_EXTREME)
    wanted = named_on(scored, extremes, limit)
    return _page_of(results, so_far), page(
        with_data(scored, data, wanted, columns), compared, extremes, limit
    )


def _page_of(results: Path, so_far: bool = False) -> Path:
    """The usual place of the page about results: no two results have the same."""
    if results.name in FILES and find_results(results.parent, so_far) == results:
        return results.with_name("report.html")
    twins = [results.with_suffix(suffix) for suffix in ENDINGS if suffix != results.suffix]
    if any(twin.exists() for twin in twins):
        return results.with_name(f"{results.name}.html")
    return results.with_suffix(".html")
