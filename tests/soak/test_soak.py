"""The long runs name proofs that exist, end when their time is over, and say what failed."""

from pathlib import Path

import pytest

from tests.soak.__main__ import LASTS, ROOT, SOAKS, Soak, environment_of, main, soak


def test_every_soak_names_a_proof_of_the_suite() -> None:
    for one in SOAKS.values():
        path, _, name = one.test.partition("::")
        text = (ROOT / path).read_text()
        assert f"def {name}(" in text if name else text
        assert (one.minutes is None) is not (one.rounds is None)


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(SystemExit, match="there are: order"):
        main(["nothing"])


def test_a_round_that_lasts_is_shortened_and_never_made_longer() -> None:
    lasting = SOAKS["nodes-chaos-long"]
    told = [environment_of(lasting, minutes)[LASTS] for minutes in (None, 0.1, 3.0, 90.0)]
    assert told == ["1800", "6", "180", "1800"]
    assert environment_of(lasting, 0.1)["PROGRESS_S"] == "30"
    assert environment_of(SOAKS["names"], 1.0) == {"NAMES": "1000000"}


@pytest.mark.slow
@pytest.mark.parametrize("is_green", [True, False])
def test_it_repeats_until_it_is_over_or_red(
    tmp_path: Path,
    is_green: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tests.soak.__main__.OUTPUT", tmp_path / "soak.json")
    proof = tmp_path / "test_proof.py"
    proof.write_text(
        "def test_it(pytestconfig):\n"
        "    print('SEED=7')\n"
        "    print('> half of it is over')\n"
        "    print('a word')\n"
        # An hour is more than a test of the suite has.
        "    assert float(pytestconfig.getini('timeout')) > 3600\n"
        f"    assert {is_green}\n"
    )
    report = soak("proof", Soak("nothing", str(proof), rounds=2), None)
    assert (report.rounds, report.is_green) == ((2, True) if is_green else (1, False))
    assert ("SEED=7" in report.last_lines) is not is_green
    # How it goes is told at once, and all of it is kept.
    rounds, _, _ = capsys.readouterr().out.partition("RED")
    assert rounds.count("  > half of it is over\n") == report.rounds
    assert "a word" not in rounds
    assert "a word\n" in (tmp_path / "soak" / "proof" / "output.txt").read_text()
