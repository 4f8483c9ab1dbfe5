"""Cron entries: each dispatches a job at each tick of its schedule.

``schedule``: when an entry ticks, pure arithmetic. ``entry``: a line of the app's table, and the jobs of its ticks.
``calls``: the calls of a queue, which add entries and list them. ``listed``: an entry as ``queue:schedule`` shows it.
The worker's part is ``worker/ticker.py``, which asks the server at each tick; the server's is ``drivers/ticks.py`` and
``drivers/tick.lua``, behind the port ``ticking``. The clauses are CRON-1 and those after it, in ``spec/cron.md``.
"""
