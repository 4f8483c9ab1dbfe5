"""Transactional dispatch: a job is a row in the caller's transaction, and a relay pushes it once that is committed.

``table``: the table ``kashvi_outbox``. ``insert``: a row in a transaction of SQLAlchemy. ``django``: a row in one of
Django. ``database``: an outbox's rows as a relay reads and deletes them. ``relay``: read, push, delete, each for
itself: no transaction of the database spans a call of the server, whatever dies in between. The clauses are OUTBOX-1
and those after it, in ``spec/outbox.md``.
"""
