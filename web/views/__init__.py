"""The pages: view models in, HTML out. No route, no actor, no clock.

Read in this order:

- `words`: what may stand in an attribute, and what is refused
- `pages`, `accounts` and `moderation`, and the panels on them, `stage`, `tree`, `chat`, `code`
  and `timeline`: one frozen view model a template
- `renderer`: a method for each page and for each fragment a stream patches; whole pages that are
  rendered once for all and filled with each visitor's own words; Jinja2's settings
- `static`: the files under `/static/`, named by their hash; `browser_runtime`: the one of them
  that is fetched and never committed
- `greeter`: the actor the home page shows; `templates/` and `static/` hold the rest
"""

from web.views.accounts import (
    AccountPage,
    ProtectedPage,
    RegisterPage,
    SignInPage,
    SignInView,
)
from web.views.chat import (
    ChatView,
    MessageFragments,
    MessageState,
    MessageView,
    RefusalView,
    Speaker,
)
from web.views.code import CodeView, sample_code
from web.views.moderation import (
    AuditPage,
    AuditView,
    ModerationPage,
    QueueView,
    WaitingView,
)
from web.views.pages import (
    ErrorPage,
    ErrorView,
    HomePage,
    LabPage,
    MemberView,
    NavLink,
    ProofView,
    QueueLink,
    Shell,
    StreamView,
)
from web.views.renderer import FilledPage, Renderer, make_environment
from web.views.stage import (
    STORY_SLOTS,
    ChipView,
    ExitView,
    InspectorView,
    PulseView,
    SampleView,
    StageAccess,
    StageState,
    StageView,
    StepView,
    StoryView,
)
from web.views.static import CACHE_CONTROL, PREFIX, StaticFile, StaticTable, load, table
from web.views.timeline import (
    EventView,
    FlowDetailView,
    FlowView,
    PairView,
    TimelineView,
)
from web.views.tree import (
    ActorStatus,
    Branch,
    CountView,
    CrashTarget,
    CrashView,
    Decision,
    NodeView,
    RestartWindow,
    StrategyBadge,
    TreeView,
)
from web.views.words import (
    CsrfToken,
    ElementId,
    ImpossibleView,
    LocalPath,
    Nonce,
    Origin,
    UnsafeAttribute,
    ViewError,
    csrf_token,
    dsid,
    element_id,
    local_path,
    mark_of,
    nonce,
    origin,
)

__all__ = [
    "CACHE_CONTROL",
    "PREFIX",
    "STORY_SLOTS",
    "AccountPage",
    "ActorStatus",
    "AuditPage",
    "AuditView",
    "Branch",
    "ChatView",
    "ChipView",
    "CodeView",
    "CountView",
    "CrashTarget",
    "CrashView",
    "CsrfToken",
    "Decision",
    "ElementId",
    "ErrorPage",
    "ErrorView",
    "EventView",
    "ExitView",
    "FilledPage",
    "FlowDetailView",
    "FlowView",
    "HomePage",
    "ImpossibleView",
    "InspectorView",
    "LabPage",
    "LocalPath",
    "MemberView",
    "MessageFragments",
    "MessageState",
    "MessageView",
    "ModerationPage",
    "NavLink",
    "NodeView",
    "Nonce",
    "Origin",
    "PairView",
    "ProofView",
    "ProtectedPage",
    "PulseView",
    "QueueLink",
    "QueueView",
    "RefusalView",
    "RegisterPage",
    "Renderer",
    "RestartWindow",
    "SampleView",
    "Shell",
    "SignInPage",
    "SignInView",
    "Speaker",
    "StageAccess",
    "StageState",
    "StageView",
    "StaticFile",
    "StaticTable",
    "StepView",
    "StoryView",
    "StrategyBadge",
    "StreamView",
    "TimelineView",
    "TreeView",
    "UnsafeAttribute",
    "ViewError",
    "WaitingView",
    "csrf_token",
    "dsid",
    "element_id",
    "load",
    "local_path",
    "make_environment",
    "mark_of",
    "nonce",
    "origin",
    "sample_code",
    "table",
]
