"""What pages load that others made: fetched as wheels, checked by hash, never committed.

- `wheels`: one wheel, downloaded as a file and refused when a byte of it is another
- `browser_runtime`: Datastar, without which no page is live
- `heading_font`: the letters of headings, without which a page shows the system's own; it is cut
  to the letters that are needed by `subsetting`, a program of its own
"""
