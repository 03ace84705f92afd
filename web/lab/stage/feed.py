"""The feed of the stage: what each open page of the lab sees of its sandbox.

Rule 1: with nobody watching it looks at nothing, and has no timer (LAB-5).
Rule 2: a chip is sent when it looks different, at most five times a second (LAB-10); lines and
open details twice a second; a step of a crash within 200 ms (LAB-12).
Rule 3: a page is told only what the panel it shows needs (LAB-1). Which that is, it says itself.
Rule 4: a crowd of sandboxes has a share of the loop and no more (LAB-95): between two of them
everybody else has a turn and a pause, so with many each is shown less often.
Rule 5: every frame replaces an element that is always there, so a reader that is behind can be
sent the newest of each and nothing else.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import trio

from actors.runtime import Actor, message
from web.lab.sandbox.sandboxes import Sandbox, Sandboxes
from web.lab.sandbox.words import ABOVE, Place
from web.lab.stage.picture import StagePicture, story_view
from web.realtime import Stream, joined, patch_elements
from web.server import Frame
from web.views import STORY_SLOTS, ChipView, InspectorView, Renderer, StageAccess, StageState

# LAB-10: a status within this; more often nothing is sent.
PERIOD_S = 0.2
# LAB-20: a point of the lines.
BEAT_S = 0.5
# LAB-95: to draw one sandbox takes one or two milliseconds; four of five are for others. Forty of
# them are drawn within a period, two hundred within one and a half seconds.
PAUSE_S = 0.005


@message
class Changed:
    """Something is different: an actor, who looks on, or what may be done."""


@message
class Look:
    """Time to send what has changed since the last look."""


@message
class Beat:
    """Time for the next point of the lines."""


Messages = Changed | Look | Beat


class TellTopic(Protocol):
    """Hears which places of a sandbox have changed; `resync`: nobody knows what they were."""

    def __call__(self, sandbox: Sandbox, places: list[Place], *, resync: bool) -> None:
        """See `TreeTopic.tell`."""


@dataclass(slots=True)
class _Page:
    """What one page was sent of its own."""

    state: StageState | None = None
    detail: tuple[Place, InspectorView] | None = None


@dataclass(slots=True)
class _Shown:
    """What the pages that show a sandbox have of it."""

    chips: dict[Place, ChipView] = field(default_factory=dict)
    received: int = 0
    number: int = 0
    pages: dict[Stream, _Page] = field(default_factory=dict)
    since: float = field(default_factory=trio.current_time)


class StageFeed(Actor[Messages]):
    """Sends the stage to who watches it: whole at first, then what changes."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        picture: StagePicture,
        renderer: Renderer,
        told: Callable[[Frame, str], None],
        tell_topic: TellTopic,
    ) -> None:
        self._sandboxes, self._picture, self._renderer = sandboxes, picture, renderer
        # Hears of each crash that was sent, and to which session.
        self._told = told
        # Told of each sandbox whose chips are other ones: which, and whether it is all anew.
        self._tell_topic = tell_topic
        self._shown: dict[Sandbox, _Shown] = {}
        self._access: StageAccess | None = None
        self._looked_at = -PERIOD_S

    def on_start(self) -> None:
        """Serve the pages of an incarnation before anew."""
        for sandbox in self._sandboxes:
            self._sandboxes.newcomers |= sandbox.viewers
        if self._sandboxes.newcomers:
            # Not at once: a stage that cannot be drawn must not crash the feed in a tight loop.
            self.after(PERIOD_S, Look(), key="look")

    async def on_changed(self, _: Changed) -> None:
        """Look at once, or as soon as a look is due again."""
        wait = self._looked_at + PERIOD_S - trio.current_time()
        if wait <= 0:
            await self._look()
        else:
            self.after(wait, Look(), key="look")

    async def on_look(self, _: Look) -> None:
        """Send what has changed."""
        await self._look()

    async def on_beat(self, _: Beat) -> None:
        """Add a point to the lines, and send it with the details that are open."""
        watched = self._watched()
        self._shown = {sandbox: self._shown.get(sandbox) or _Shown() for sandbox in watched}
        if watched:
            self.after(BEAT_S, Beat(), key="beat")
            for sandbox in watched:
                self._sample(sandbox)
            await self._look(is_beat=True)

    def _watched(self) -> list[Sandbox]:
        return [one for one in self._sandboxes if one.is_own and one.viewers]

    async def _look(self, *, is_beat: bool = False) -> None:
        self._looked_at = trio.current_time()
        newcomers, self._sandboxes.newcomers = self._sandboxes.newcomers, set()
        is_other = self._look_at_shared(newcomers)
        watched = self._watched()
        if watched and not self._shown:
            self.after(BEAT_S, Beat(), key="beat")
        is_all = is_beat or is_other
        due = [one for one in watched if is_all or one.is_changed or newcomers & one.viewers]
        # A crash is told before a queue, and who has just come sees nothing yet.
        due.sort(key=lambda one: not (one.told or newcomers & one.viewers))
        for number, sandbox in enumerate(due):
            if number:
                await trio.sleep(PAUSE_S)
            # Some have left in the pause, and some of those who came were served already.
            new, newcomers = newcomers & sandbox.viewers, newcomers - sandbox.viewers
            self._send(sandbox, new, is_beat=is_beat)

    def _look_at_shared(self, newcomers: set[Stream]) -> bool:
        """Nothing happens there: who comes is sent it once, and all when the lab closes or opens.

        Gives whether it has.
        """
        shared = self._sandboxes.shared
        access = self._picture.state(shared, "").access
        to = newcomers & shared.viewers
        is_other = access is not self._access
        if is_other:
            self._access, to = access, set(shared.viewers)
        if not to:
            return is_other
        html = self._chips(self._picture.chips(shared)) + self._emptied(set())
        html += self._renderer.stage_state(self._picture.state(shared, ""))
        frame = joined([patch_elements(html)])
        for stream in to:
            stream.put_panel("stage", frame)
        return is_other

    def _send(self, sandbox: Sandbox, new: set[Stream], *, is_beat: bool) -> None:
        shown = self._shown.setdefault(sandbox, _Shown())
        shown.pages = {one: shown.pages.get(one) or _Page() for one in sandbox.viewers}
        old = [stream for stream in shown.pages if stream not in new]
        chips = self._picture.chips(sandbox)
        if new and not shown.chips and self._is_to_wait(shown, chips):
            self._sandboxes.newcomers |= new
            self.after(PERIOD_S, Look(), key="look")
            return
        sandbox.is_changed = False
        self._send_chips(shown.chips, chips, old)
        was = shown.chips
        other = [place for place, chip in chips.items() if not _is_alike(chip, was.get(place))]
        if other:
            self._tell_topic(sandbox, other, resync=not was)
        shown.chips = chips
        has_news = bool(sandbox.told)
        self._send_stories(sandbox, shown, old)
        if new:
            self._serve(sandbox, shown, new, has_news=has_news)
        if is_beat:
            pulse = self._pulse(sandbox, shown, is_first=False)
            for stream in old:
                stream.put_panel("pulse", pulse)
        for stream, page in shown.pages.items():
            self._send_own(stream, page, sandbox, is_beat=is_beat)

    def _is_to_wait(self, shown: _Shown, chips: Mapping[Place, ChipView]) -> bool:
        # A sandbox that is being made is not sent in halves: its page shows one that runs already.
        is_whole = all(chip.status == "running" for chip in chips.values())
        return not is_whole and trio.current_time() - shown.since < PERIOD_S

    def _send_chips(
        self, before: Mapping[Place, ChipView], chips: Mapping[Place, ChipView], to: list[Stream]
    ) -> None:
        for place, chip in chips.items():
            if to and not _is_alike(chip, before.get(place)):
                frame = joined([patch_elements(self._chips({place: chip}))])
                for stream in to:
                    stream.put_panel(f"chip-{place}", frame)

    def _send_stories(self, sandbox: Sandbox, shown: _Shown, to: list[Stream]) -> None:
        told, sandbox.told = sandbox.told, {}
        for story in told.values():
            view = story_view(story, sandbox, shown.chips)
            frame = joined([patch_elements(self._renderer.stage_story(view))])
            for stream in to:
                stream.put_panel(f"story-{view.slot}", frame)
            self._tell(frame, to)

    def _tell(self, frame: Frame, to: Iterable[Stream]) -> None:
        for session in {stream.session_id for stream in to}:
            self._told(frame, session)

    def _serve(self, sandbox: Sandbox, shown: _Shown, to: set[Stream], *, has_news: bool) -> None:
        """Send all of it, in one piece; with news, who comes now is told them by that."""
        html = self._chips(shown.chips)
        stories = [story_view(story, sandbox, shown.chips) for story in sandbox.stories.kept]
        html += "".join(map(self._renderer.stage_story, stories))
        html += self._emptied({story.slot for story in stories})
        whole = joined([patch_elements(html)])
        pulse = self._pulse(sandbox, shown, is_first=True)
        for stream in to:
            stream.put_panel("stage", whole)
            stream.put_panel("pulse", pulse)
        if has_news:
            self._tell(whole, to)

    def _send_own(self, stream: Stream, page: _Page, sandbox: Sandbox, *, is_beat: bool) -> None:
        state = self._picture.state(sandbox, stream.address)
        if state != page.state:
            page.state = state
            frame = joined([patch_elements(self._renderer.stage_state(state))])
            stream.put_panel("stage-state", frame)
        viewer = self._sandboxes.viewers.get(stream)
        place = None if viewer is None else viewer.place
        if place is None:
            page.detail = None
        elif is_beat or page.detail is None or page.detail[0] != place:
            detail = place, self._picture.inspector(sandbox, place)
            if page.detail != detail:
                page.detail = detail
                frame = joined([patch_elements(self._renderer.stage_inspector(detail[1]))])
                stream.put_panel("inspector", frame)

    def _sample(self, sandbox: Sandbox) -> None:
        shown = self._shown[sandbox]
        came = max(0, sandbox.props.received - shown.received) if shown.number else 0
        shown.received = sandbox.props.received
        shown.number += 1
        self._sandboxes.sample(sandbox, came)

    def _pulse(self, sandbox: Sandbox, shown: _Shown, *, is_first: bool) -> Frame:
        pulse = self._picture.pulse(sandbox, shown.number, is_first=is_first)
        return joined([patch_elements(self._renderer.stage_pulse(pulse))])

    def _emptied(self, filled: set[int]) -> str:
        """What an open page may show of a sandbox before this one, whose numbers were the same."""
        return self._renderer.story_slots(set(range(STORY_SLOTS)) - filled)

    def _chips(self, chips: Mapping[Place, ChipView]) -> str:
        render = self._renderer.stage_chip
        return "".join([render(chip, level(place)) for place, chip in chips.items()])


def _is_alike(chip: ChipView, before: ChipView | None) -> bool:
    """Whether a page has this chip: how many letters wait is told with the lines."""
    if before is None or chip.is_filling != before.is_filling:
        return False
    return chip == before or chip == replace(before, queued=chip.queued)


def level(place: Place) -> int:
    """Call this for how deep a place stands, from 1 for the root."""
    above = ABOVE[place]
    return 1 if above is None else 1 + level(above)
