"""One way to write the kitchen."""

from actors.sagas import Outcome, Refused, SagaCommand, Succeeded


class Kitchen:
    PORTIONS = 2

    def __init__(self) -> None:
        self.cooked: list[str] = []
        self.answers: dict[str, Outcome] = {}

    async def answer(self, command: SagaCommand) -> Outcome:
        """`command.work` names what is to be done once; that of an undo is the same and ":undo".

        The dish is `command.body["dish"]`; `cooked` has each dish that stands.
        """
        if command.work not in self.answers:
            dish = str(command.body["dish"])
            new = self._undo(command, dish) if command.is_undo else self._do(command, dish)
            self.answers[command.work] = new
        return self.answers[command.work]

    def _do(self, command: SagaCommand, dish: str) -> Outcome:
        if f"{command.work}:undo" in self.answers:
            return Refused("called off")
        if self.cooked.count(dish) >= self.PORTIONS:
            return Refused("sold out")
        self.cooked.append(dish)
        return Succeeded()

    def _undo(self, command: SagaCommand, dish: str) -> Outcome:
        if self.answers.get(command.work.removesuffix(":undo")) == Succeeded():
            self.cooked.remove(dish)
        return Succeeded()
