"""What can go wrong with sagas, divided by who must act.

`SagaDefinitionError` is yours, when a class is made. `UnknownSaga`, `SagaExists`,
`SignalRefused` and `InvalidSagaTransition` are the caller's; nothing was done after each of them.
`SagaVersionsUnknown` is for whoever deploys, `NoParticipant` for whoever wires a program.
"""

from collections.abc import Mapping


class SagaError(Exception):
    """Base of what this package raises."""

    code = "saga_error"


class SagaDefinitionError(SagaError, TypeError):
    """Raised when a saga's class, or a part of it, cannot mean anything; nothing was defined.

    `where` is the file and line of what is to be changed.
    """

    code = "saga_definition"

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where, self.why = where, why


class InvalidSagaId(SagaError, ValueError):
    """Raised for a name that no saga can have; nothing was done."""

    code = "invalid_saga_id"

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{text[:80]!r} is no id of a saga: {why}")
        self.text, self.why = text, why


class UnknownSaga(SagaError, LookupError):
    """Raised for a saga that was never started; nothing was done."""

    code = "unknown_saga"

    def __init__(self, saga: str) -> None:
        super().__init__(f"there is no saga {saga}; nothing was done")
        self.saga = saga


class UnknownSagaKind(SagaError, LookupError):
    """Raised for a kind, or a version of it, that this program does not have; nothing was done."""

    code = "unknown_saga_kind"

    def __init__(self, kind: str, version: int | None = None) -> None:
        which = kind if version is None else f"{kind} v{version}"
        super().__init__(f"this program has no saga of kind {which}; give its class to SagaKinds")
        self.kind, self.version = kind, version


class SagaExists(SagaError):
    """Raised when a saga is to be started under an id that another one has; nothing was done."""

    code = "saga_exists"

    def __init__(self, saga: str) -> None:
        super().__init__(
            f"{saga} was started with other data; nothing was done. Take another id or key."
        )
        self.saga = saga


class InvalidSagaTransition(SagaError):
    """Raised when a saga is not where what is asked makes sense; nothing was done."""

    code = "invalid_transition"

    def __init__(self, saga: str, status: str, asked: str) -> None:
        super().__init__(f"{saga} is {status} and cannot {asked}; nothing was done")
        self.saga, self.status, self.asked = saga, status, asked


class SignalRefused(SagaError):
    """Raised for a signal that no step of its saga waits for, or can read; nothing was done.

    `why` names what the steps wait for.
    """

    code = "signal_refused"

    def __init__(self, saga: str, why: str) -> None:
        super().__init__(f"{saga} takes no such signal: {why}; nothing was done")
        self.saga, self.why = saga, why


class SagaVersionsUnknown(SagaError):
    """Raised at start: sagas run whose steps this program does not know. None was resumed.

    `counts` has how many of each kind, version and fingerprint. Keep the former class beside the
    new one with its `version`, or give the new one a `migrate`.
    """

    code = "saga_versions_unknown"

    def __init__(self, counts: Mapping[tuple[str, int, str], int]) -> None:
        lines = ", ".join(
            f"{count} of {kind} v{version} ({fingerprint})"
            for (kind, version, fingerprint), count in sorted(counts.items())
        )
        super().__init__(
            f"sagas run whose steps this program does not know: {lines}. None was resumed. "
            "Keep their class with its version, or give the new one a migrate()."
        )
        self.counts = dict(counts)


class NoParticipant(SagaError, LookupError):
    """Raised when a command leaves for a target that nobody serves; it is sent again later."""

    code = "no_participant"

    def __init__(self, target: str) -> None:
        super().__init__(f"no participant serves {target!r}; give one to Sagas")
        self.target = target
