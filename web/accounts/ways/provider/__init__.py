"""Sign-in by a provider, as pages and programs reach it (AUTH-4, AUTH-5, AUTH-6).

Read `configured.py` (the settings of providers), `calling.py` (one call to one, with its limits),
`asking.py` (a provider that can be asked: where it is, its keys, its tokens), then `returning.py`
(what beginning a flow and coming back do) and `routes.py`.
"""
