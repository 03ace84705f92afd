"""What was lost or damaged of what is kept, who comes twice, who is killed: nothing half stays."""

import fcntl
import gzip
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from storage.errors import (
    BackupBroken,
    BackupFailed,
    BackupRefused,
    EmbeddedFailed,
    OutsideBackups,
)
from storage.postgres import check_archive, judge_archive, open_database
from storage.postgres.connecting.health import ArchiveState
from storage.postgres.embedded.archive import Archive, prepare
from storage.postgres.embedded.backups import restoring as restoring_module
from storage.postgres.embedded.backups.folder import UNDER_WAY, held, read_folder
from storage.postgres.embedded.backups.planning import segment_name, segment_of
from storage.postgres.embedded.backups.restoring import SCRATCH, Restoring, remove_left_over
from storage.postgres.embedded.backups.taking import prune, source_of, take
from storage.postgres.embedded.server import EmbeddedServer, start
from tests.patience import PATIENT_POOL
from tests.storage.backups.kit import (
    EXTRA,
    archive_of,
    begin,
    close_log,
    copied,
    count,
    names,
    wanted,
    write,
)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Story:
    """What `folder/kept` keeps: 5 events, a base, 5, an incremental, then 5 files of the log."""

    folder: Path
    amid: datetime

    @property
    def archive(self) -> Archive:
        return archive_of(self.folder)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    server, source = begin(folder)
    try:
        write(server.url, 5, is_new=True)
        take(source, archive_of(folder), "base", bool)
        write(server.url, 5)
        amid = take(source, archive_of(folder), "incremental", bool).ended_at
        for _ in range(5):
            write(server.url, 1)
            close_log(source, archive_of(folder))
    finally:
        server.stop()
    return Story(folder, amid)


def _refused(archive: Archive, target: Path, error: type[Exception], words: str) -> None:
    """A restore says why not, and leaves nothing."""
    with pytest.raises(error, match=words):
        Restoring(archive, target, bool).begin(wanted())
    assert not target.exists()


def _events_of(archive: Archive, target: Path) -> int:
    restoring = Restoring(archive, target, bool)
    recovered = restoring.begin(wanted())
    try:
        return count(recovered.source)
    finally:
        restoring.drop()


def _behind(archive: Archive, number: int) -> Path:
    """The file of the log so many behind the last backup."""
    last = read_folder(archive).backups[-1]
    name = segment_name(1, segment_of(last.sealed - 1) + number)
    return archive.log / f"{name}.gz"


def test_all_is_there_without_damage(story: Story, tmp_path: Path) -> None:
    # OPS-1; what the other tests of this file take away
    kept = read_folder(story.archive)
    assert ([one.name for one in kept.backups], kept.holes) == (
        ["0001-base", "0002-incremental"],
        [],
    )
    assert len(kept.spans) == 1
    assert _events_of(story.archive, tmp_path / "back") == 15


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_what_root_makes_among_the_servers_files_is_the_servers(tmp_path: Path) -> None:
    # OPS-1: a base reads all of the data folder, the logs of servers before too; without a right
    # that was lent for other reasons it failed at the first of them
    server, source = begin(tmp_path)
    server.stop()
    log = source.data / "server.log"
    assert log.stat().st_uid == source.account.uid != 0
    os.chown(log, 0, 0)  # as a version before has left it
    start(tmp_path / "state", extra=EXTRA, archive=archive_of(tmp_path)).stop()
    with held(archive_of(tmp_path), alone=True):
        pass
    for folder in (source.data, archive_of(tmp_path).folder):
        found = {path: path.lstat().st_uid for path in folder.rglob("*")}
        assert {path for path, uid in found.items() if uid != source.account.uid} == set()
    # A link that the server's user might have laid there leads root nowhere.
    linked = archive_of(tmp_path).folder / "lock"
    linked.unlink()
    linked.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), held(archive_of(tmp_path), alone=True):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_file_of_the_log_is_named(story: Story, tmp_path: Path) -> None:
    # OPS-1: an end of the archive that is none would give a store that lacks the rest
    archive = copied(story.folder, tmp_path / "kept")
    gone = _behind(archive, 2)
    gone.unlink()
    kept = read_folder(archive)
    assert kept.holes == [gone.name[:-3]]
    _refused(archive, tmp_path / "back", BackupBroken, gone.name[:-3])
    with pytest.raises(BackupBroken, match="What can be restored"):
        Restoring(archive, tmp_path / "back", bool).begin(
            wanted(kept.spans[-1].last + timedelta(seconds=1))
        )
    # Up to the hole it works.
    restoring = Restoring(archive, tmp_path / "back", bool)
    recovered = restoring.begin(wanted(story.amid))
    assert count(recovered.source) == 10
    restoring.drop()


def test_a_damaged_file_of_the_log_is_named(story: Story, tmp_path: Path) -> None:
    # OPS-1
    archive = copied(story.folder, tmp_path / "kept")
    broken = _behind(archive, 2)
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    (tmp_path / "back").mkdir()
    with pytest.raises(BackupBroken, match=f"{broken.name} is damaged"):
        Restoring(archive, tmp_path / "back", bool).begin(wanted())
    assert names(tmp_path / "back") == []


def test_a_log_that_was_damaged_before_it_was_archived_is_told(
    story: Story, tmp_path: Path
) -> None:
    # OPS-1: the archive's own sums are right, and for the server the damage is the end of the log
    archive = copied(story.folder, tmp_path / "kept")
    last = sorted(archive.log.glob("0*[0-9A-F].gz"))[-1]
    content = bytearray(gzip.decompress(last.read_bytes()))
    # Amid the first record of the file that has something in it.
    content[200] ^= 0xFF
    last.write_bytes(gzip.compress(content, 1))
    with pytest.raises(BackupBroken, match=r"damaged before .* at 0/"):
        Restoring(archive, tmp_path / "back", bool).begin(wanted())
    assert not (tmp_path / "back").exists()


def test_a_time_that_was_damaged_promises_no_moment(story: Story, tmp_path: Path) -> None:
    # OPS-1: `backup list` said that next year could be restored
    archive = copied(story.folder, tmp_path / "kept")
    last = _behind(archive, 5)
    content = bytearray(last.read_bytes())
    content[7] |= 0x80
    last.write_bytes(content)
    assert read_folder(archive).spans[-1].last <= datetime.now(UTC)


def test_a_file_that_goes_while_the_log_is_read_is_told(story: Story, tmp_path: Path) -> None:
    # OPS-1: the server ends in peace where it finds no more, and the store would lack the rest
    archive = copied(story.folder, tmp_path / "kept")
    last = sorted(archive.log.glob("0*.gz"))[-1]

    def tell(words: str) -> None:
        if "replaying the log" in words:
            last.unlink()

    # In a folder that is open to all, below which the server must still come to closed ones.
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        (Path(open_to_all) / "lost+found").mkdir()  # as a disk just made has
        with pytest.raises(BackupBroken, match="lost files while they were read"):
            Restoring(archive, Path(open_to_all), tell).begin(wanted())
        assert names(Path(open_to_all)) == ["lost+found"]


def test_a_log_that_goes_on_beyond_the_moment_is_not_taken_for_its_end(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OPS-1: between the end that was met before the moment, and the way to that end
    calls = []

    def met_an_end(folder: Path, **given: object) -> EmbeddedServer:
        calls.append(folder)
        if len(calls) == 1:
            raise EmbeddedFailed("it ended", restoring_module.NOT_REACHED)
        extra = given["extra"]
        assert isinstance(extra, tuple), "what the server is told"
        return start(folder, extra=extra, archive=None)

    monkeypatch.setattr(restoring_module, "start", met_an_end)
    with pytest.raises(BackupFailed, match=r"went on beyond .* Do it again"):
        Restoring(story.archive, tmp_path / "back", bool).begin(wanted(story.amid))
    assert not (tmp_path / "back").exists()


def test_a_damaged_or_missing_file_of_a_backup_is_named(story: Story, tmp_path: Path) -> None:
    # OPS-1, without pg_verifybackup
    archive = copied(story.folder, tmp_path / "kept")
    folder = archive.backups / "0001-base"
    control = folder / "data" / "global" / "pg_control"
    content = bytearray(control.read_bytes())
    content[100] ^= 1
    control.write_bytes(content)
    _refused(archive, tmp_path / "back", BackupBroken, "pg_control is damaged")
    control.write_bytes(bytes(content[:100]))
    _refused(archive, tmp_path / "back", BackupBroken, "pg_control has 100 bytes")
    control.unlink()
    _refused(archive, tmp_path / "back", BackupBroken, "pg_control is missing")
    (folder / "data" / "backup_manifest").write_text("{")
    _refused(archive, tmp_path / "back", BackupBroken, "backup_manifest is damaged")
    (folder / "backup.json").write_text("{")
    _refused(archive, tmp_path / "back", BackupBroken, "backup.json cannot be read")
    # An incremental backup whose base is gone is none.
    shutil.rmtree(folder)
    _refused(archive, tmp_path / "back", BackupRefused, "no backup that is whole")


def test_a_target_that_holds_something_stays_as_it_is(story: Story, tmp_path: Path) -> None:
    # OPS-1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letters.txt").write_text("mine")
    with pytest.raises(BackupRefused, match="is not empty; nothing was done"):
        Restoring(story.archive, tmp_path / "mine", bool).begin(wanted())
    assert names(tmp_path / "mine") == ["letters.txt"]
    _refused(story.archive, story.archive.folder / "back", BackupRefused, "among the backups")
    with pytest.raises(BackupRefused, match="is no folder"):
        Restoring(story.archive, tmp_path / "mine" / "letters.txt", bool).begin(wanted())
    _refused(Archive(tmp_path / "mine"), tmp_path / "back", BackupRefused, "holds no backups")


def test_a_disk_without_room_is_seen_before(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OPS-1
    monkeypatch.setattr(restoring_module, "free_bytes", lambda _folder: 1)
    _refused(story.archive, tmp_path / "back", BackupFailed, "has 0 MB left; nothing was done")


def test_a_moment_that_no_backup_reaches_is_told_with_what_can_be(
    story: Story, tmp_path: Path
) -> None:
    # OPS-1
    (span,) = read_folder(story.archive).spans
    for asked in (span.first - timedelta(seconds=1), span.last + timedelta(days=1)):
        with pytest.raises(OutsideBackups) as caught:
            Restoring(story.archive, tmp_path / "back", bool).begin(wanted(asked))
        assert caught.value.spans == ((span.first, span.last),)
        assert span.first.isoformat() in str(caught.value)


@pytest.fixture
def again(story: Story, tmp_path: Path) -> Iterator[tuple[EmbeddedServer, Archive]]:
    """The story's store, brought back, and run on under the same backups."""
    archive = copied(story.folder, tmp_path / "kept")
    restoring = Restoring(archive, tmp_path / "state", bool)
    restoring.begin(wanted(story.amid))
    restoring.keep()
    server = start(tmp_path / "state", extra=EXTRA, archive=archive)
    yield server, archive
    server.stop()


def test_a_restored_store_goes_on_in_the_same_archive(
    again: tuple[EmbeddedServer, Archive], tmp_path: Path
) -> None:
    # OPS-1, OPS-2: a new timeline, and a restore of what was restored
    server, archive = again
    source = source_of(tmp_path / "state", server.url, archive)
    assert (source.timeline(), count(source)) == (2, 10)
    with pytest.raises(BackupRefused, match="Make a base first"):
        take(source, archive, "incremental", bool)
    source.ask("CREATE TABLE later (x int)")
    close_log(source, archive)
    restoring = Restoring(archive, tmp_path / "second", bool)
    recovered = restoring.begin(wanted())
    assert (recovered.timeline, recovered.backup.name) == (3, "0002-incremental")
    assert count(recovered.source) == 10
    assert recovered.source.ask("SELECT count(*) FROM later") == "0"
    restoring.drop()
    # The line that was left is there, too, for who says so.
    old = Restoring(archive, tmp_path / "old", bool)
    assert count(old.begin(wanted(timeline=1)).source) == 15
    old.drop()
    base = take(source, archive, "base", bool)
    assert (base.name, base.timeline) == ("0003-base", 2)
    assert take(source, archive, "incremental", bool).parent == 3
    # What nothing needs any more goes with the backups that needed it.
    gone, files = prune(archive, 1, bool)
    assert ([one.name for one in gone], files > 0) == (["0001-base", "0002-incremental"], True)
    assert _events_of(archive, tmp_path / "third") == 10
    assert prune(archive, 1, bool) == ([], 0)


def test_a_second_backup_at_the_same_time_is_refused(
    again: tuple[EmbeddedServer, Archive], tmp_path: Path
) -> None:
    # OPS-1
    server, archive = again
    source = source_of(tmp_path / "state", server.url, archive)
    with held(archive, alone=True):
        for work in (
            lambda: take(source, archive, "base", bool),
            lambda: prune(archive, 1, bool),
            lambda: Restoring(archive, tmp_path / "back", bool).begin(wanted()),
        ):
            with pytest.raises(BackupRefused, match="another command works with the backups"):
                work()
    assert not (tmp_path / "back").exists()
    (tmp_path / "back" / SCRATCH).mkdir(parents=True)
    with (tmp_path / "back" / SCRATCH / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackupRefused, match="another command restores into"):
            Restoring(archive, tmp_path / "back", bool).begin(wanted())
    assert names(tmp_path / "back" / SCRATCH) == ["lock"]


async def _told(url: str) -> ArchiveState:
    async with open_database(url, settings=PATIENT_POOL) as database:
        return await check_archive(database)


def test_an_archive_that_is_away_is_told_and_the_log_is_kept(
    again: tuple[EmbeddedServer, Archive], tmp_path: Path
) -> None:
    # OPS-1, RES-40
    server, archive = again
    source = source_of(tmp_path / "state", server.url, archive)
    before = trio.run(_told, server.url)
    assert (before.is_on, before.is_failing) == (True, False)
    away = archive.log.with_name("away")
    archive.log.rename(away)
    with pytest.raises(BackupFailed, match=r"not archived.*No such file.*tries again"):
        take(source, archive, "base", bool)
    # The backup itself is whole; only nothing behind it can be reached yet.
    assert names(archive.backups)[-1] == "0003-base"
    ready = [*(server.data / "pg_wal" / "archive_status").glob("*.ready")]
    assert ready
    found = trio.run(_told, server.url)
    assert found.is_failing
    assert found.waiting == len(ready)
    assert found.waiting_s > 0
    assert "cannot be archived for" in judge_archive(found)
    # Who may not look at files knows that it fails, and since when nothing came.
    source.ask("CREATE ROLE nobody LOGIN")
    unseen = trio.run(_told, server.url.replace("//postgres@", "//nobody@"))
    assert (unseen.is_failing, unseen.waiting) == (True, 0)
    assert unseen.waiting_s > 0
    away.rename(archive.log)
    server.stop()
    server = start(tmp_path / "state", extra=EXTRA, archive=archive)
    close_log(source_of(tmp_path / "state", server.url, archive), archive)
    assert judge_archive(trio.run(_told, server.url)) == ""
    server.stop()
    assert all((archive.log / f"{one.stem}.gz").exists() for one in ready)
    assert _events_of(archive, tmp_path / "back") == 10


def test_a_folder_of_another_server_is_refused(
    again: tuple[EmbeddedServer, Archive], tmp_path: Path
) -> None:
    # OPS-1
    server, archive = again
    source = source_of(tmp_path / "state", server.url, archive)
    with pytest.raises(BackupRefused, match="does not archive to"):
        take(source, Archive(tmp_path / "elsewhere"), "base", bool)
    mark = archive.folder / "greenroom-backups.json"
    mark.write_text('{"format":1,"system":"5"}')
    with pytest.raises(BackupRefused, match="another server"):
        take(source, archive, "base", bool)
    for error, text in (
        ("another server", None),
        ("cannot be read", "{"),
        ("another version", '{"format":9,"system":"5"}'),
    ):
        if text is not None:
            mark.write_text(text)
        with pytest.raises(BackupRefused, match=error):
            prepare(archive, server.data, source.account)
    disk = tmp_path / "disk"
    (disk / "lost+found").mkdir(parents=True)
    disk.chmod(0o777)
    prepare(Archive(disk), server.data, source.account)
    assert names(disk) == ["archive", "backups", "greenroom-backups.json", "lost+found"]
    assert disk.stat().st_mode & 0o777 == 0o700
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letters.txt").write_text("mine")
    for folder, words in (
        (tmp_path / "full", "no backup of ours"),
        (server.data / "kept", "must lie apart"),
    ):
        with pytest.raises(BackupRefused, match=words):
            prepare(Archive(folder), server.data, source.account)


_KILLED = """
import os, signal, sys
from pathlib import Path
from storage.postgres.embedded.backups import {module} as module
from storage.postgres.embedded.archive import Archive
from storage.postgres.embedded.backups.restoring import Restoring
from storage.postgres.embedded.backups.taking import source_of, take
from tests.storage.backups.kit import wanted
real, calls = module.{step}, []
def die(*args, **named):
    given = real(*args, **named) if {after} else None
    os.kill(os.getpid(), signal.SIGKILL)
module.{step} = die
folder = Path(sys.argv[1])
archive = Archive(folder / "kept")
{work}
"""
_TAKE = 'take(source_of(folder / "state", sys.argv[2], archive), archive, "base", bool)'
_RESTORE = 'r = Restoring(archive, folder / "back", bool); r.begin(wanted()); r.keep()'


def _killed_at(folder: Path, url: str, module: str, step: str, work: str, *, after: bool) -> None:
    program = _KILLED.format(module=module, step=step, work=work, after=after)
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder), url], capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@pytest.mark.parametrize(
    ("step", "after"),
    [("_under_way", True), ("read_manifest", True), ("replace_file", True), ("seal", False)],
)
def test_a_backup_that_is_killed_leaves_none(
    step: str, after: bool, again: tuple[EmbeddedServer, Archive], tmp_path: Path
) -> None:
    # OPS-1
    server, archive = again
    _killed_at(tmp_path, server.url, "taking", step, _TAKE, after=after)
    assert names(archive.backups) == [UNDER_WAY, "0001-base", "0002-incremental"]
    assert len(read_folder(archive).backups) == 2
    source = source_of(tmp_path / "state", server.url, archive)
    assert take(source, archive, "base", bool).name == "0003-base"
    assert names(archive.backups) == ["0001-base", "0002-incremental", "0003-base"]


def _copy_of_what_is_there(source: str, target: str) -> None:
    # The server of a restore that was killed still runs, with its socket, and takes its files
    # away as it ends.
    with suppress(FileNotFoundError):
        if not Path(source).is_socket():
            shutil.copy2(source, target)


@pytest.mark.parametrize(("step", "after"), [("run_long", True), ("start", True)])
def test_a_restore_that_is_killed_leaves_nothing_that_is_taken_for_data(
    step: str, after: bool, story: Story, tmp_path: Path
) -> None:
    # OPS-1
    archive = copied(story.folder, tmp_path / "kept")
    _killed_at(tmp_path, "", "restoring", step, _RESTORE, after=after)
    assert names(tmp_path / "back") == [SCRATCH]
    # As the next look removes what was made to look only; one under way stays.
    dead = tmp_path / "looks" / "dead" / "store" / SCRATCH
    shutil.copytree(tmp_path / "back" / SCRATCH, dead, copy_function=_copy_of_what_is_there)
    alive = tmp_path / "looks" / "alive" / "store" / SCRATCH
    alive.mkdir(parents=True)
    with (alive / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_left_over(str(tmp_path / "looks"), "*/store")
    assert names(tmp_path / "looks") == ["alive"]
    restoring = Restoring(archive, tmp_path / "back", bool)
    assert count(restoring.begin(wanted()).source) == 15
    restoring.keep()
    assert names(tmp_path / "back") == ["postgres"]


def test_who_gives_up_waits_for_nothing_and_leaves_nothing(story: Story, tmp_path: Path) -> None:
    # OPS-1: Ctrl-C in each step
    class GivenUp(BaseException):
        pass

    archive = copied(story.folder, tmp_path / "kept")
    for enough in (1, 1200, 2100):
        calls = 0

        def meanwhile(enough: int = enough) -> None:
            nonlocal calls
            calls += 1
            if calls > enough:
                raise GivenUp

        restoring = Restoring(archive, tmp_path / "back", bool, meanwhile)
        try:
            restoring.begin(wanted())
        except GivenUp:
            pass
        else:
            restoring.drop()
        assert not (tmp_path / "back").exists()
    assert names(tmp_path) == ["kept"]
    assert names(archive.backups) == ["0001-base", "0002-incremental"]
