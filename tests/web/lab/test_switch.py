"""Who may act in the lab just now: a setting, a word of the operator, a loop that is late."""

from __future__ import annotations

from pathlib import Path

from web.cli.commands import main
from web.lab.switch import BUSY_S, CALM_S, LabSwitch, write_mode
from web.settings import LabMode

# So many turns of less than a millisecond, and of a quarter of a second.
QUICK, LATE = 10, 18


def test_an_operator_changes_it_and_nonsense_changes_nothing(tmp_path: Path) -> None:  # LAB-92
    file = tmp_path / "lab-mode"
    switch = LabSwitch(LabMode.PUBLIC, file)
    for wanted in (LabMode.READONLY, LabMode.OFF, LabMode.PUBLIC):
        write_mode(tmp_path, wanted)
        switch.look(0.0)
        assert switch.mode is wanted
    write_mode(tmp_path, LabMode.OFF)
    switch.look(0.5)
    for nonsense in (b"", b"open\n", b"\xff"):
        file.write_bytes(nonsense)
        switch.look(1.0)
        assert switch.mode is LabMode.OFF
    file.unlink()
    switch.look(1.5)
    assert switch.mode is LabMode.PUBLIC


def test_the_command_says_it_to_the_state_folder(tmp_path: Path) -> None:  # LAB-92, CLI-20
    words = ["--state-dir", str(tmp_path)]
    # Nobody can be asked here, so nothing is done.
    assert main(["lab", "readonly", *words]) == 2
    assert not (tmp_path / "lab-mode").exists()
    # There is no store that could tell of it later: it is closed, and not opened.
    assert main(["lab", "readonly", "--yes", *words]) == 0
    assert main(["lab", "public", "--yes", *words]) == 3
    switch = LabSwitch(LabMode.PUBLIC, tmp_path / "lab-mode")
    switch.look(0.0)
    assert switch.mode is LabMode.READONLY
    assert main(["lab", "off", "--yes", "--state-dir", str(tmp_path / "none")]) == 3


def test_a_loop_that_is_late_closes_it_for_a_while() -> None:  # LAB-92
    lags = [0] * 24
    switch = LabSwitch(LabMode.PUBLIC, lags=lambda: tuple(lags))
    now = 0.0
    for _ in range(int(BUSY_S / 0.5) + 1):
        assert switch.mode == "public"
        lags[QUICK] += 2
        lags[LATE] += 3
        switch.look(now)
        now += 0.5
    assert switch.is_overloaded
    for _ in range(int(CALM_S / 0.5) - 1):
        lags[QUICK] += 40
        switch.look(now)
        now += 0.5
        assert switch.is_overloaded
    for _ in range(3):
        lags[QUICK] += 40
        switch.look(now)
        now += 0.5
    assert not switch.is_overloaded


def test_a_crowd_closes_it_and_a_closed_one_is_not_opened() -> None:  # LAB-92
    crowd = [0.5]
    switch = LabSwitch(LabMode.OFF, crowd=lambda: crowd[0])
    open_ = LabSwitch(LabMode.PUBLIC, crowd=lambda: crowd[0])
    for one in (switch, open_):
        one.look(0.0)
    assert (switch.mode, open_.mode) == (LabMode.OFF, LabMode.PUBLIC)
    crowd[0] = 0.8
    for one in (switch, open_):
        one.look(1.0)
    assert (switch.mode, open_.mode) == (LabMode.OFF, LabMode.READONLY)
