"""The model as TLA+, with the same table, for TLC to count its states: a second opinion on our own search."""

from __future__ import annotations

from .explore import Scope
from .table import TABLE, Row, decisions

MODULE = "Queue"


def module_of(scope: Scope, table: tuple[Row, ...] = TABLE) -> str:
    """The module's text."""
    rows = ",\n  ".join(
        f'<<"{end}", {attempt}>> :> [to |-> "{row.to}", counts |-> {int(row.counts)}, suspect |-> "{_mark(row)}"]'
        for (end, attempt), row in sorted(decisions(scope.limit, table).items())
    )
    return TEXT.replace("ROWS", rows.replace(",\n  ", " @@\n  ")).replace("LIMIT", str(scope.limit))


def config_of(scope: Scope) -> str:
    """What TLC reads beside it."""
    return (
        "SPECIFICATION Spec\nINVARIANTS Bounded CertainIsLapsed\n"
        f"CONSTANTS\n  Workers = {{{', '.join(map(str, range(1, scope.workers + 1)))}}}\n"
        f"  Jobs = {{{', '.join(map(str, range(1, scope.jobs + 1)))}}}\n"
        f"  Crashes = {scope.crashes}\n  Silences = {scope.silences}\n"
    )


def _mark(row: Row) -> str:
    return "as it was" if row.suspect is None else "yes" if row.suspect else "no"


TEXT = r"""---- MODULE Queue ----
EXTENDS Integers, FiniteSets, TLC
CONSTANTS Workers, Jobs, Crashes, Silences
VARIABLES job, worker, crashes, silences
vars == <<job, worker, crashes, silences>>

Limit == LIMIT
Table ==
  ROWS

Over == {"good", "bad", "void"}
LateKinds == {"claimed", "trying", "ended"} \X (0..(Limit - 1))
NoneLate == [k \in LateKinds |-> 0]
At(place, attempts, suspect) == [place |-> place, attempts |-> attempts, suspect |-> suspect, owner |-> 0, stage |-> ""]
Up(leased, late) == [up |-> TRUE, leased |-> leased, late |-> late, certain |-> FALSE]
Down(leased, certain) == [up |-> FALSE, leased |-> leased, late |-> NoneLate, certain |-> certain]
Fresh == Up(TRUE, NoneLate)
Mine(w) == {j \in Jobs : job[j].owner = w}
Certain(w) == /\ Cardinality({j \in Mine(w) : job[j].place = "running"}) = 1
              /\ \A j \in Mine(w) : job[j].place = "running" \/ job[j].suspect

Init == /\ job = [j \in Jobs |-> At("new", 0, FALSE)]
        /\ worker = [w \in Workers |-> Fresh]
        /\ crashes = Crashes /\ silences = Silences

Put(j, new) == job' = [job EXCEPT ![j] = new]
Renew(w) == worker' = [worker EXCEPT ![w].leased = TRUE, ![w].certain = FALSE]
Same == UNCHANGED <<crashes, silences>>
Stage(j, stage) == Put(j, [job[j] EXCEPT !.stage = stage]) /\ UNCHANGED worker /\ Same
After(j, end) ==
  LET row == Table[<<end, job[j].attempts + 1>>]
      mark == IF row.suspect = "as it was" THEN job[j].suspect ELSE row.suspect = "yes"
  IN IF row.to \in {"done", "unrecorded"} THEN At(row.to, 0, FALSE)
     ELSE At(row.to, job[j].attempts + row.counts, mark)

Dispatch(j) == job[j].place = "new" /\ Put(j, At("ready", 0, FALSE)) /\ UNCHANGED worker /\ Same
DispatchAfter(j) == job[j].place = "new" /\ Put(j, At("delayed", 0, FALSE)) /\ UNCHANGED worker /\ Same
Promote(j) == /\ job[j].place = "delayed"
              /\ Put(j, At("ready", job[j].attempts, job[j].suspect)) /\ UNCHANGED worker /\ Same
Record(j) == job[j].place = "unrecorded" /\ Put(j, At("recorded", 0, FALSE)) /\ UNCHANGED worker /\ Same
Claim(j, w) == /\ job[j].place = "ready" /\ worker[w].up
               /\ Put(j, [job[j] EXCEPT !.place = "held", !.owner = w, !.stage = "claimed"]) /\ Renew(w) /\ Same

Waits(j) == job[j].stage = "claimed" /\ job[j].suspect /\ job[j].place = "held"
Startable(j) == job[j].stage = "claimed" /\ ~Waits(j)
Announce(j) == LET w == job[j].owner IN
               /\ Waits(j)
               /\ Put(j, [job[j] EXCEPT !.place = "running"]) /\ Renew(w) /\ Same
Start(j) == Startable(j) /\ Stage(j, "trying")
Void(j) == Startable(j) /\ Stage(j, "void")
Succeed(j) == job[j].stage = "trying" /\ Stage(j, "good")
Fail(j) == job[j].stage = "trying" /\ Stage(j, "bad")
Return(j) == job[j].stage = "claimed" /\ Put(j, After(j, "returned")) /\ Renew(job[j].owner) /\ Same
Settle(j) == /\ job[j].stage \in Over
             /\ LET end == CASE job[j].stage = "good" -> "succeeded" [] job[j].stage = "bad" -> "failed"
                             [] OTHER -> "void"
                IN Put(j, After(j, end))
             /\ Renew(job[j].owner) /\ Same

Disown(j) ==
  LET w == job[j].owner
      kind == <<IF job[j].stage \in Over THEN "ended" ELSE job[j].stage, job[j].attempts>>
  IN IF worker[w].up THEN worker' = [worker EXCEPT ![w].late[kind] = @ + 1] ELSE UNCHANGED worker
TakeOver(j) == /\ job[j].owner # 0 /\ ~worker[job[j].owner].leased
               /\ \/ Put(j, After(j, IF job[j].place # "running" THEN "died"
                                     ELSE IF worker[job[j].owner].certain THEN "lost" ELSE "beside"))
                  \/ job[j].attempts = 0 /\ ~job[j].suspect /\ Put(j, After(j, "void"))
               /\ Disown(j) /\ Same

Crash(w) == /\ worker[w].up /\ crashes > 0 /\ crashes' = crashes - 1 /\ UNCHANGED silences
            /\ job' = [j \in Jobs |-> IF job[j].owner = w THEN [job[j] EXCEPT !.stage = ""] ELSE job[j]]
            /\ worker' = [worker EXCEPT ![w] = Down(worker[w].leased /\ Mine(w) # {},
                                                    worker[w].certain /\ Mine(w) # {})]
Restart(w) == ~worker[w].up /\ Mine(w) = {} /\ worker' = [worker EXCEPT ![w] = Fresh] /\ UNCHANGED job /\ Same
LapseDead(w) == /\ ~worker[w].up /\ Mine(w) # {} /\ worker[w].leased
                /\ worker' = [worker EXCEPT ![w] = Down(FALSE, Certain(w))] /\ UNCHANGED job /\ Same
LapseAlive(w) == /\ worker[w].up /\ worker[w].leased /\ Mine(w) # {} /\ silences > 0 /\ silences' = silences - 1
                 /\ worker' = [worker EXCEPT ![w].leased = FALSE, ![w].certain = Certain(w)]
                 /\ UNCHANGED <<job, crashes>>
RenewIdle(w) == worker[w].up /\ ~worker[w].leased /\ Renew(w) /\ UNCHANGED job /\ Same
Quit(w) == /\ worker[w].up /\ {j \in Mine(w) : job[j].stage = "trying"} # {}
           /\ \A j \in Mine(w) : job[j].stage \notin Over
           /\ job' = [j \in Jobs |-> IF job[j].owner = w THEN At("ready", job[j].attempts, job[j].suspect) ELSE job[j]]
           /\ worker' = [worker EXCEPT ![w] = Down(FALSE, FALSE)] /\ Same

Late(w, k) == worker[w].up /\ worker[w].late[k] > 0
Further(w, k, stage) ==
  worker' = [worker EXCEPT ![w].late = [[@ EXCEPT ![k] = @ - 1] EXCEPT ![<<stage, k[2]>>] = @ + 1]]
LateStart(w, k) == Late(w, k) /\ k[1] = "claimed" /\ Further(w, k, "trying") /\ UNCHANGED job /\ Same
LateEnd(w, k) == Late(w, k) /\ k[1] \in {"claimed", "trying"} /\ Further(w, k, "ended") /\ UNCHANGED job /\ Same
Refused(w, k) == /\ Late(w, k) /\ k[1] \in {"claimed", "ended"}
                 /\ worker' = [worker EXCEPT ![w] = Up(TRUE, [@.late EXCEPT ![k] = @ - 1])] /\ UNCHANGED job /\ Same

OfJob(j) == \/ Dispatch(j) \/ DispatchAfter(j) \/ Promote(j) \/ Record(j) \/ \E w \in Workers : Claim(j, w)
            \/ Announce(j) \/ Start(j) \/ Void(j) \/ Succeed(j) \/ Fail(j) \/ Return(j) \/ Settle(j) \/ TakeOver(j)
OfWorker(w) == \/ Crash(w) \/ Restart(w) \/ LapseDead(w) \/ LapseAlive(w) \/ RenewIdle(w) \/ Quit(w)
               \/ \E k \in LateKinds : LateStart(w, k) \/ LateEnd(w, k) \/ Refused(w, k)
Next == (\E j \in Jobs : OfJob(j)) \/ (\E w \in Workers : OfWorker(w))
Spec == Init /\ [][Next]_vars

Bounded == \A j \in Jobs : job[j].attempts < Limit
CertainIsLapsed == \A w \in Workers : worker[w].certain => ~worker[w].leased
====
"""
