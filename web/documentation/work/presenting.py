"""From a mechanism to what its page shows."""

from web.documentation.library import place_of_requirement
from web.documentation.work.mechanisms import Mechanism
from web.routing import paths
from web.views import (
    ArrowView,
    DiagramView,
    GuaranteeView,
    MechanismView,
    NavLink,
    local_path,
)


def mechanism_view(one: Mechanism, *, has_documents: bool) -> MechanismView:
    """Call this once for each mechanism; where no documents are installed no link leads there."""
    return MechanismView(
        local_path(f"{paths.WORK}/{one.slug}"),
        one.eyebrow,
        one.title,
        one.summary,
        DiagramView(
            one.diagram,
            one.lanes,
            tuple(
                ArrowView(number, arrow.start, arrow.end, arrow.label)
                for number, arrow in enumerate(one.arrows, 1)
            ),
        ),
        tuple((step.title, step.text) for step in one.steps),
        tuple(
            GuaranteeView(
                each.text,
                tuple(
                    (name, place_of_requirement(name) if has_documents else None)
                    for name in each.ids
                ),
            )
            for each in one.guarantees
        ),
        tuple(
            NavLink(local_path(link.path), link.text)
            for link in one.links
            if has_documents or not link.path.startswith(paths.DOCS)
        ),
    )
