"""The keys of subjects in memory; the twin of `storage/postgres/events/subject_keys.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from actors.persistence import GenerationState, SubjectKey
from actors.persistence.beside_log.subject_keys import check_subjects
from actors.persistence.words import check_text
from storage.memory.database import MemoryDatabase, SubjectKeyChange
from storage.memory.twin import Twin


class MemorySubjectKeys(Twin):
    """The port `SubjectKeys` on a `MemoryDatabase`."""

    async def find(self, subjects: Sequence[str]) -> Mapping[str, SubjectKey]:
        """See `SubjectKeys.find`."""
        check_subjects(subjects)
        await self.pass_faults()
        kept = self.database.subject_keys
        return {one: kept[one] for one in subjects if one in kept}

    async def add(self, keys: Sequence[SubjectKey]) -> Mapping[str, SubjectKey]:
        """See `SubjectKeys.add`."""
        await self.pass_faults()
        kept = self.database.subject_keys
        return {key.subject: kept.setdefault(key.subject, key) for key in keys}

    async def forget(self, subject: str, *, by: str) -> bool:
        """See `SubjectKeys.forget`."""
        check_subjects([subject])
        check_text("by", by)
        await self.pass_faults()
        return forget_subject(self.database, subject, by)

    async def readmit(self, key: SubjectKey, *, by: str) -> bool:
        """See `SubjectKeys.readmit`."""
        check_text("by", by)
        await self.pass_faults()
        kept = self.database.subject_keys.get(key.subject)
        if kept is None or not kept.is_forgotten or kept.number != key.number - 1:
            return False
        self.database.subject_keys[key.subject] = key
        _audit(self.database, by, "subject.readmit", key.subject)
        return True

    async def forgets(
        self, since: int | None = None, *, limit: int = 1000
    ) -> tuple[int, Sequence[str]]:
        """See `SubjectKeys.forgets`."""
        await self.pass_faults()
        forgotten = self.database.forgotten
        return len(forgotten), () if since is None else forgotten[since : since + limit]

    async def masters(self) -> Mapping[str, int]:
        """See `SubjectKeys.masters`."""
        await self.pass_faults()
        found: dict[str, int] = {}
        for key in self.database.subject_keys.values():
            if key.master is not None:
                found[key.master] = found.get(key.master, 0) + 1
        return found

    async def wrapped_by_others(self, master: str, *, limit: int = 1000) -> Sequence[SubjectKey]:
        """See `SubjectKeys.wrapped_by_others`."""
        await self.pass_faults()
        kept = sorted(self.database.subject_keys.values(), key=lambda key: key.subject)
        return [key for key in kept if key.master not in (None, master)][:limit]

    async def rewrap(self, old: SubjectKey, new: SubjectKey) -> bool:
        """See `SubjectKeys.rewrap`."""
        await self.pass_faults()
        if self.database.subject_keys.get(old.subject) != old:
            return False
        self.database.subject_keys[old.subject] = new
        return True


def forget_subject(database: MemoryDatabase, subject: str, by: str) -> bool:
    """Call this for what `SubjectKeys.forget` does."""
    kept = database.subject_keys.get(subject)
    if kept is not None and kept.is_forgotten:
        return False
    number = 0 if kept is None else kept.number
    database.subject_keys[subject] = SubjectKey(subject, number, None, None)
    database.forgotten.append(subject)
    made_of_it = {
        key for key, subjects in database.projection_subjects.items() if subject in subjects
    }
    for key, one in database.checkpoints.items():
        if key[:2] not in made_of_it:
            continue
        made = one
        if not one.is_outdated:
            is_building = one.state is GenerationState.BUILDING
            made = database.checkpoints[key] = replace(
                one,
                is_outdated=True,
                revision=one.revision + 1,
                state=GenerationState.RETIRED if is_building else one.state,
            )
            if made.state is GenerationState.RETIRED:
                database.retired_at[key[:2]] = database.now()
        if made.state is GenerationState.RETIRED:
            database.documents.pop(one.collection, None)
            database.projection_subjects.pop(key[:2], None)
    _audit(database, by, "subject.forget", subject)
    return True


def _audit(database: MemoryDatabase, by: str, action: str, subject: str) -> None:
    database.subject_audit.append(SubjectKeyChange(subject, by, action))
