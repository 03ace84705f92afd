"""What of mail is reached over HTTP.

Read `previews.py` (the templates, for who writes them), `signed.py` (what providers report, and who
signed it), `bounces.py` (the address they report to).
"""
