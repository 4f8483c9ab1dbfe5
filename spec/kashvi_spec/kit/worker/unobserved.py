"""The reasons why some clauses can't be judged through Redis alone."""

from __future__ import annotations

OF_AREAS = {
    "dispatch": "it is about the producer, which is the kit here",
    "memory": "it is about a queue in one process's memory",
    "commands": "it is about kashvi's own commands",
    "table": "it is about what a program does with the table, beside recording",
    "jobs": "it is about job types in Python",
    "envelope": "it is about the producer, which is the kit here",
    "workers": "it is about workers inside a Python program",
    "queues": "the kit pushes to the default queue",
    "cron": "a worker in another language has no cron entries",
    "outbox": "it is about the producer, which is the kit here",
    "history": "a worker in another language need not report",
}
OF_CLAUSES = {
    "DELAY-3": OF_AREAS["dispatch"],
    "DELAY-4": OF_AREAS["dispatch"],
    "DELAY-7": "the kit does not change clocks",
    "DELAY-10": "the kit does not change clocks",
    "DELIVERY-6": "the kit does not lose replies on their way",
    "DELIVERY-11": "the kit does not change clocks",
    "DELIVERY-12": "the kit kills no worker that runs long jobs",
    "DELIVERY-13": "the kit does not watch a worker's memory",
    "DELIVERY-15": "the kit does not kill one job's process again and again",
    "DELIVERY-16": "the kit does not kill one job's process again and again",
    "DELIVERY-17": "the kit does not kill one job's process again and again",
    "ENVELOPE-7": "the kit tries a few odd entries only; vectors/go_wire.json has the others",
    "FAILURES-2": "the list is in the worker's memory",
    "FAILURES-11": "the list is in the worker's memory",
    "FAILURES-13": "it is about exceptions in Python",
    "FAILURES-12": "the kit does not fill the disk of the database",
    "FAILURES-7": "the kit does not stop the database",
    "FAILURES-8": "the kit names a failure table to every worker",
    "FAILURES-10": "a worker that lets such jobs wait would hold up the kit for minutes",
    "REDIS-5": "other programs may keep keys of their own in this database",
    "REDIS-6": "it is about connections inside a Python program",
    "REDIS-7": OF_AREAS["dispatch"],
    "REDIS-14": "the kit's server is not a cluster",
    "REDIS-11": "the kit does not fill the server",
    "REDIS-12": "the kit has one server, without a failover",
    "REDIS-13": "it is about connections inside a Python program",
    "REDIS-15": "the kit takes no right away from a worker",
    "REDIS-16": "the kit's server drops no keys",
    "RETRY-5": "the kit can't change a worker's limit",
    **{f"RETRY-{n}": OF_AREAS["jobs"] for n in range(8, 15)},
    "WORKERS-11": "the kit does not stop the server",
}
UNTOLD = "the kit has no judge for it yet"
"""For a new clause: the kit's own tests require a judge or a reason."""
