"""A worker as a machine: all that it knows, and every decision; no lock, clock, thread, driver or chance.

Theory of operation. Nobody drives the machine; its callers pull. A thread asks what to do, does it, says how it went,
and asks again; the worker's keeper does likewise. The machine answers with one step, and what the answer of a server
means, it is told. Whoever calls it holds one lock, gives the time (microseconds of this process's monotonic clock),
and afterwards sees to its signals: so many idle threads to wake (``wake``), the keeper to call (``bell``), a pause to
cut short (``hurry``), and what to tell observers and the log (``news``).

    caller    asks                       is told       does it, and then calls
    thread    ``free``, ``woken``        Delivery      runs the job; ``free`` with how it ended, or ``interrupted``
                                         Request       sends the exchange; ``answered``, ``lost`` or ``unanswered``
                                         AskDue        asks when a job is due; ``due``, which answers with a Wait
                                         Wait          waits on the server; ``waited`` or ``wait_lost``
                                         Idle          sleeps; ``woken``, or ``roused`` if it can't go on
                                         None          ends; ``fewer``
              ``lost``                   Again         pauses, and sends the same request again
                                         None          gave up; ``free``
    keeper    ``keep``                   Rest          sleeps; ``keep``
                                         Reap          reads what the dead hold; ``reaped``
                                         Request       as above; ``keep``
                                         Record        starts the recorder, which calls ``recorded``; ``keep``
                                         None          ends: the worker has stopped
    others    ``stop``, ``one_try``, ``hand_back``; they ask ``full``, ``calling``, ``unsettled``, ``stands_still``

What calls it is a shell: ``kashvi.worker.shell`` with threads and a lock, or the simulator's direct shell, which has
neither: its lock is that nothing else runs meanwhile.

There is no dispatcher thread. A thread that finds nothing to run leads: in one exchange it hands over everyone's
finished work and takes new work for every idle thread; with nothing to hand over or to take, it waits on the server
for the next job. One exchange and one wait are under way at a time. When all threads are busy, the keeper exchanges.

    server, other workers
      jobs        exchange (many) and wait (one) bring fresh jobs to ``ready`` and suspects to ``suspects``
      held        of ``ready``, a thread takes the first to ``running``; of ``suspects``, an exchange announces one
      running     announced on the server, a suspect goes first in ``ready``
      elsewhere   what ended goes to ``outbox``, with the next exchange to ``open``, and from there to where it belongs

``holding`` counts what the server thinks this worker has. A reply that was lost, a refused announcement or another
count than the server's make it reconcile: the last request's number, once more, is answered with a listing, and what
was not known of is taken on.

Rule 1: nobody but the machine assigns to a field (its caller clears the signals). Rule 2: all that is reached from it
is a value; ``clone`` copies it, and two machines with the same ``key`` do the same (``state.py``).
Rule 3: what decides (``choose``, ``suspects``, ``exchange``, ``stop``, ``tend``) changes nothing; what changes
(``jobs``, ``calls``, ``machine``, one class in three parts) asks these.
"""

from .machine import Machine as Machine
