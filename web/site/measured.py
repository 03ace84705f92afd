"""What the home page says was measured: figures of `docs/reference/performance.md`, as it has them.

A test looks for each of them there, so that no figure stands here that the page has no more.
"""

from web.views import MeasuredView

# The columns behind ours.
BESIDE = ("Pykka", "Erlang/OTP")
MEASURED = (
    MeasuredView("messages told a second", "547,000", ("118,000", "3,110,000")),
    MeasuredView("questions answered a second", "157,000", ("31,300", "553,000")),
    MeasuredView("to start one of 10,000 supervised actors", "119 us", ("", "12.6 us")),
    MeasuredView("to restart a crashed actor", "418 us", ("", "")),
)
