"""A kitchen that takes part in a saga: it cooks what it is told, and throws away what is undone.

Write `answer`. A command may come twice: what was done is done once, and a repeat is answered as
the first was, a refusal too. Of each dish there are two portions; the third is refused with the
reason "sold out". An undo gives its portion back, once. An undo may come before its do, or without
one: it succeeds, and the do that comes behind it is refused with the reason "called off".
"""

from actors.sagas import Outcome, SagaCommand


class Kitchen:
    PORTIONS = 2

    def __init__(self) -> None:
        self.cooked: list[str] = []

    async def answer(self, command: SagaCommand) -> Outcome:
        """`command.work` names what is to be done once; that of an undo is the same and ":undo".

        The dish is `command.body["dish"]`; `cooked` has each dish that stands.
        """
        raise NotImplementedError
