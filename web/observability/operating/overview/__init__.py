"""The overview of operators: one source of figures, for the page `/ops` and `greenroom top`.

Read `reading.py`: one look at a process; `feed.py`: looks for whoever has the page open;
`page.py`: the page, and who may see it; `telling.py`: the same for a terminal.
"""
