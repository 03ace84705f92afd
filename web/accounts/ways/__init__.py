"""Ways to sign in beside a password, on the web.

`links.py` is what asking for a link and opening it do, whatever page or program they come from;
`link_pages.py` are its forms, `link_api.py` its addresses for client programs.
"""
