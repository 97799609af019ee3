"""CSV and TSV as data: one row a line, under the names of the first."""

import gzip

import pytest

from mmreward.data.rows import read_rows


def rows(path, text, columns=None):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_rows(path, columns))


@pytest.mark.parametrize(("ending", "between"), [("csv", ","), ("tsv", "\t"), ("CSV", ",")])
def test_a_table_is_rows_with_the_names_of_its_first_line(tmp_path, png, ending, between):
    (tmp_path / "a.png").write_bytes(png)
    text = "\r\n".join(
        between.join(cells)
        for cells in [("file", "caption", "target", "n"), ("a.png", '"two\nlines, ""quoted"""', "", "1")]
    )
    (row,) = rows(tmp_path / f"d.{ending}", b"\xef\xbb\xbf" + text.encode(), {"image": "file"})
    assert row.id == "000000" and row.sample.prompt == 'two\nlines, "quoted"'
    assert row.sample.image.size == (2, 4) and row.sample.target is None and row.sample.meta["n"] == "1"


def test_lists_and_objects_are_json(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    text = 'id\tinputs\tsteps\tmeta\n1\t["a.png"]\t["x", "y"]\t{"k": [1]}\n2\t[\t\t\n'.replace('"', '""')
    text = "\n".join("\t".join(f'"{cell}"' for cell in line.split("\t")) for line in text.splitlines())
    good, bad = rows(tmp_path / "d.tsv", text)
    assert good.sample.steps == ("x", "y") and good.sample.meta["k"] == [1]
    assert good.sample.inputs[0].size == (2, 4)
    assert bad.sample is None and "d.tsv, line 3, inputs is not JSON" in bad.problem


@pytest.mark.parametrize(
    ("text", "words", "good"),
    [
        ("a,a\n1,2\n", "names the column 'a' twice", 0),
        ("prompt\np\nq,r\ns\n", "d.csv, line 3: more columns than the first line has", 2),
        ('prompt\np\n"q"r\ns\n', "d.csv, line 3: ", 2),
        ('prompt\np\n"q\nr\n', "unexpected end of data", 1),
    ],
)
def test_a_damaged_table_keeps_what_can_be_read(tmp_path, text, words, good):
    found = rows(tmp_path / "d.csv", text)
    problems = [row.problem for row in found if row.sample is None]
    assert len(found) == good + 1 and len(problems) == 1 and words in problems[0]


def test_a_cell_may_be_long(tmp_path):
    (row,) = rows(tmp_path / "d.csv", "prompt,response\np," + "x" * 200_000 + "\n")
    assert len(row.sample.response) == 200_000


def test_what_is_no_table_is_said_with_the_endings_that_are(tmp_path):
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(b"a\n1\n"))
    with pytest.raises(ValueError, match=r"d.csv.gz is no folder, no .jsonl, .jsonl.gz, .parquet, .csv"):
        read_rows(tmp_path / "d.csv.gz")
