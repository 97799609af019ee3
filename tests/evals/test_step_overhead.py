from mmreward.evals import training_overhead

from mmreward.tune.config import TuneConfig


def test_it_compares_with_a_bare_loop_and_shows_when_what_was_under_way(monkeypatch, capsys):
    given = training_overhead.TUNE_CONFIG.model_dump()
    given["rollout"] |= {"prompts": 1, "group": 4, "micro_batch": 2, "steps": 2}
    monkeypatch.setattr(training_overhead, "TUNE_CONFIG", TuneConfig.model_validate(given))
    monkeypatch.setattr(training_overhead, "ROUNDS", 1)
    assert training_overhead.tune_main() in (True, False)
    said = capsys.readouterr().out
    assert said.count("bare loop") == 1 and "median overhead" in said
    rows = [line for line in said.splitlines() if "|" in line]
    assert [row.split("|")[0].strip() for row in rows] == ["generate", "score", "wait", "update"]
    assert all("#" in row for row in rows)
