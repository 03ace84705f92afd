"""Which traces are kept, for how long, and who may look at them.

Read `kept.py` (the store of traces and what is chosen), `sweeping.py` (who looks through the spans
of the last seconds), `examples.py` (from a figure to a trace), `of_site.py` (how a request begins a
trace, and all of it together), then `presenting.py` and `routes.py`: the pages. `exporting/` hands
them to a collector. What is recorded, and where, stands in `actors/runtime/telling/spans.py` and
`actors/runtime/delivery/span.py`.
"""
