"""A local page on which one result is looked at, answered, edited, certified and saved.

`session.Session` holds the result and does everything through its methods; `server` puts it behind
HTTP for one person on this machine; `static/` is the page.
"""
