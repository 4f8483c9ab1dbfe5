"""A worker as a machine: it holds all that the worker knows, and makes every decision. It has no lock, clock, thread,
driver or chance.

Theory of operation. The machine does nothing by itself; its callers pull. A thread asks the machine for its next step,
carries the step out, reports the result, and asks again. The keeper of the worker does the same. A caller holds one
lock during a call, and passes the time (microseconds of this process's monotonic clock). After the call it carries out
the machine's signals: it wakes idle threads (``wake``), calls the keeper (``bell``), cuts a pause short
(``hurry``), and tells observers and the log (``news``).

    caller    asks                       is told       does it, and then calls
    thread    ``free``, ``woken``        Delivery      runs the job, with a time limit after ``limit``; ``free`` with
                                                       how it ended, or ``interrupted``
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
                                         AskMarks      asks which jobs are cancelled; ``told_marks``, ``not_told``
                                         Record        starts the recorder, which calls ``recorded``; ``keep``
                                         Stuck         says so, and may open a thread, or ``not_opened``; ``keep``
                                         Abandon       has the policies decide; ``abandoned``, ``keep``
                                         None          ends: the worker has stopped
    others    ``stop``, ``one_try``, ``hand_back``, ``hand_over``; they ask ``full``, ``calling``, ``unsettled``,
              ``stands_still``

A shell calls the machine: ``kashvi.worker.shell``, with threads and a lock; or the simulator's direct shell, which
needs neither, since it runs one step at a time.

There is no dispatcher thread. A thread that finds nothing to run leads: in one exchange it hands over everyone's
finished work and takes new work for every idle thread; with nothing to hand over or to take, it waits on the server
for the next job. One exchange and one wait are under way at a time. When all threads are busy, the keeper exchanges.

    server, other workers
      jobs        exchange (many) and wait (one) bring fresh jobs to ``ready`` and suspects to ``suspects``
      held        of ``ready``, a thread takes the first to ``running``; of ``suspects``, an exchange announces one
      running     announced on the server, a suspect goes first in ``ready``
      elsewhere   what ended goes to ``outbox``, with the next exchange to ``open``, and from there to where it belongs

``holding`` counts the jobs that the server has on this worker's lists. After a lost reply, a refused announcement, or
a count of the server that differs, the worker reconciles: it sends the number of its last request again, the server
answers with a listing, and the worker takes on the jobs that it did not know of.

While the queue is paused, the worker wants no job, and hands back what has not started. A free thread asks twice a
second whether the pause is over; before each wait a thread asks whether there is one.

A cancelled job is marked on the server, which lets no settlement make it ready again. An exchange tells when the newest
mark was made; the keeper then asks about the worker's jobs. Those that have not started are handed back, which removes
them; a running attempt sees it if it asks.

An attempt with a time limit is not ended from outside. The keeper looks at the limits that have passed: an attempt that
goes on for too long after its limit is stuck, and another thread is opened in its place. Or, where the process can be
replaced, the worker stops, gives other attempts some time, and leaves what still runs behind: the stuck ones as failed.

Rule 1: only the machine assigns to its fields; only its caller clears the signals. Rule 2: the machine refers to values
alone; ``clone`` copies it, and two machines with the same ``key`` do the same (``state.py``). Rule 3: the modules that
decide (``choose``, ``suspects``, ``exchange``, ``stop``, ``tend``, ``timeouts``) change nothing; the modules that
change (``jobs``, ``calls``, ``machine``, one class in three parts) ask them.
"""

from .machine import Machine as Machine
