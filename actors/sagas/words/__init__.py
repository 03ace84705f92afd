"""The words of sagas, in the order one reads them.

`errors` (what can go wrong), `words` (ids, outcomes, what a saga is told and what it sends),
`log` (the events), `state` (what they add up to).
"""
