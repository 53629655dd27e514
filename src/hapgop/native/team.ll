; A team of threads that calls one function together: workers wait, `launch` calls them, they run, `launch` returns.
;
; Nothing here allocates, and no state is kept but the globals below; they are the whole of it, and @reset makes them new
; in a forked child. How threads wait is in wait.ll, on which cores they are in seats.ll.

; A worker: its state, job + one of 0 (has nothing), 1 (is called), 2 (is here), 3 (came too late); its number in the team;
; the core that it was last on.
%worker = type { %word, i64, i32, [29 x i32] }

@busy = internal global %word zeroinitializer, align 128      ; 1 while a team works
@go = internal global %word zeroinitializer, align 128        ; the job whose team is complete and may begin
@pending = internal global %word zeroinitializer, align 128   ; members that have not finished, without the caller
@arrived = internal global %word zeroinitializer, align 128   ; members at the barrier
@phase = internal global %word zeroinitializer, align 128     ; barriers passed
@workers = internal global [1024 x %worker] zeroinitializer, align 128

@job = internal global i32 0, align 128                       ; of the latest launch, a multiple of 4
@run = internal global ptr null                               ; what the team calls, and its first argument
@data = internal global ptr null
@size = internal global i32 0                                 ; how many are in the team
@core = internal global i32 0                                 ; where the caller is
@spin = internal global i64 0                                 ; for how many nanoseconds its members wait awake

@idle_spin = internal global i64 0                            ; for how long workers without work wait awake
@team_spin = internal global i64 0                            ; for how long members wait awake for one another
@cores = internal global i64 1                                ; with more threads than this, nobody waits awake for long

define void @tune(i64 %idle, i64 %team, i64 %cores) #0 {
  store i64 %idle, ptr @idle_spin
  store i64 %team, ptr @team_spin
  store i64 %cores, ptr @cores
  ret void
}

; In a forked child there are no workers, and what a launch in the parent had begun will never end.
define void @reset() #0 {
  store i64 0, ptr @busy                                      ; both halves of the word
  store i64 0, ptr @go
  store i64 0, ptr @pending
  store i64 0, ptr @arrived
  store i64 0, ptr @phase
  store i32 0, ptr @job
  br label %next
next:
  %w = phi i64 [ 0, %0 ], [ %w.next, %next ]
  %worker = getelementptr [1024 x %worker], ptr @workers, i64 0, i64 %w
  store i64 0, ptr %worker
  %w.next = add i64 %w, 1
  %more = icmp ult i64 %w.next, 1024
  br i1 %more, label %next, label %done
done:
  ret void
}

; What a kernel calls between its stages.
define void @barrier() #0 {
  %phase = load atomic i32, ptr @phase acquire, align 4       ; cannot change before this thread has arrived
  %size = load i32, ptr @size
  %before = atomicrmw add ptr @arrived, i32 1 acq_rel
  %count = add i32 %before, 1
  %last = icmp eq i32 %count, %size
  br i1 %last, label %open, label %wait
open:
  store atomic i32 0, ptr @arrived monotonic, align 4
  %next = add i32 %phase, 1
  store atomic i32 %next, ptr @phase release, align 4
  call void @wake(ptr @phase)
  ret void
wait:
  %spin = load i64, ptr @spin
  call i32 @await(ptr @phase, i32 %phase, i64 %spin)
  ret void
}

; A worker's whole life; `number` counts from 0.
define ptr @work(i64 %number) #0 {
  %worker = getelementptr [1024 x %worker], ptr @workers, i64 0, i64 %number
  %index.at = getelementptr %worker, ptr %worker, i32 0, i32 1
  br label %look
look:
  %state = load atomic i32, ptr %worker acquire, align 4
  %kind = and i32 %state, 3
  %called = icmp eq i32 %kind, 1
  br i1 %called, label %come, label %idle
idle:
  %cores = load i64, ptr @cores
  %one = add i64 %number, 1
  %own = icmp ult i64 %one, %cores
  %idle.spin = load i64, ptr @idle_spin
  %patience = select i1 %own, i64 %idle.spin, i64 0
  call i32 @await(ptr %worker, i32 %state, i64 %patience)
  br i1 %own, label %place, label %look
place:
  call void @part(i64 %number)
  br label %look
come:
  %here = add i32 %state, 1
  %answer = cmpxchg ptr %worker, i32 %state, i32 %here acq_rel acquire
  %in.time = extractvalue { i32, i1 } %answer, 1
  br i1 %in.time, label %ready, label %look
ready:
  %job = sub i32 %state, 1
  %going = load atomic i32, ptr @go acquire, align 4
  %begun = icmp eq i32 %going, %job
  br i1 %begun, label %act, label %wait
wait:
  %spin = load i64, ptr @spin
  call i32 @await(ptr @go, i32 %going, i64 %spin)
  br label %ready
act:
  %index = load i64, ptr %index.at
  call void @member(i64 %index)
  %left = atomicrmw sub ptr @pending, i32 1 acq_rel
  %last = icmp eq i32 %left, 1
  br i1 %last, label %report, label %look
report:
  call void @wake(ptr @pending)
  br label %look
}

define internal void @member(i64 %index) #0 {
  %run = load ptr, ptr @run
  %data = load ptr, ptr @data
  %size = load i32, ptr @size
  %size64 = zext i32 %size to i64
  call void %run(ptr %data, i64 %index, i64 %size64, ptr @barrier)
  ret void
}

; Whether a worker that was called came before the deadline; `deadline` points at it, and holds the patience, negated,
; until somebody has to be waited for.
define internal i1 @came(ptr %worker, i32 %called, ptr %deadline) #0 {
  br label %quick
quick:
  %i = phi i32 [ 0, %0 ], [ %i.next, %quick.again ]
  %v1 = load atomic i32, ptr %worker acquire, align 4
  %waiting1 = icmp eq i32 %v1, %called
  br i1 %waiting1, label %quick.again, label %yes
quick.again:
  call void @relax()
  %i.next = add i32 %i, 1
  %quick.more = icmp ult i32 %i.next, 64
  br i1 %quick.more, label %quick, label %timed
timed:
  %known = load i64, ptr %deadline
  %first = icmp slt i64 %known, 0
  br i1 %first, label %set, label %turn
set:
  %start = call i64 @now()
  %until = sub i64 %start, %known
  store i64 %until, ptr %deadline
  br label %turn
turn:
  %j = phi i32 [ 0, %timed ], [ 0, %set ], [ %j.next, %turn.again ], [ 0, %offer ]
  %v2 = load atomic i32, ptr %worker acquire, align 4
  %waiting2 = icmp eq i32 %v2, %called
  br i1 %waiting2, label %turn.again, label %yes
turn.again:
  call void @relax()
  %j.next = add i32 %j, 1
  %more = icmp ult i32 %j.next, 64
  br i1 %more, label %turn, label %offer
offer:                                                        ; the worker may need this very core
  call i32 @sched_yield()
  %now = call i64 @now()
  %end = load i64, ptr %deadline
  %in.time = icmp slt i64 %now, %end
  br i1 %in.time, label %turn, label %close
close:
  %late = add i32 %called, 2
  %answer = cmpxchg ptr %worker, i32 %called, i32 %late acq_rel acquire
  %without = extractvalue { i32, i1 } %answer, 1
  br i1 %without, label %no, label %yes
yes:
  ret i1 true
no:
  ret i1 false
}

; Calls run(data, thread, threads, barrier) on `threads` threads, this one and workers that exist; returns when all have.
;
; Workers that have not come after `patience` nanoseconds (at least 1) are left out: they are asleep or their core is taken,
; and the others do their share. While another thread is in here, run is called on this one alone. Returns how many ran.
define i64 @launch(ptr %run, ptr %data, i64 %threads, i64 %patience) #0 {
  %deadline = alloca i64
  %answer = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic
  %mine = extractvalue { i32, i1 } %answer, 1
  br i1 %mine, label %begin, label %alone
alone:
  call void %run(ptr %data, i64 0, i64 1, ptr null)
  ret i64 1
begin:
  %negated = sub i64 0, %patience
  store i64 %negated, ptr %deadline
  %others = sub i64 %threads, 1
  %job.before = load i32, ptr @job
  %job = add i32 %job.before, 4
  %called = add i32 %job, 1
  store i32 %job, ptr @job
  store ptr %run, ptr @run
  store ptr %data, ptr @data
  %core = call i32 @sched_getcpu()
  store atomic i32 %core, ptr @core monotonic, align 4
  %cores = load i64, ptr @cores
  %fits = icmp sle i64 %threads, %cores
  %team.spin = load i64, ptr @team_spin
  %spin = select i1 %fits, i64 %team.spin, i64 0
  store i64 %spin, ptr @spin
  br label %call
call:
  %c = phi i64 [ 0, %begin ], [ %c.next, %call ]
  %c.at = getelementptr [1024 x %worker], ptr @workers, i64 0, i64 %c
  store atomic i32 %called, ptr %c.at release, align 4
  %c.next = add i64 %c, 1
  %call.more = icmp ult i64 %c.next, %others
  br i1 %call.more, label %call, label %rouse
rouse:
  %r = phi i64 [ 0, %call ], [ %r.next, %rouse ]
  %r.at = getelementptr [1024 x %worker], ptr @workers, i64 0, i64 %r
  call void @wake(ptr %r.at)
  %r.next = add i64 %r, 1
  %rouse.more = icmp ult i64 %r.next, %others
  br i1 %rouse.more, label %rouse, label %gather
gather:
  %g = phi i64 [ 0, %rouse ], [ %g.next, %counted ]
  %members = phi i32 [ 1, %rouse ], [ %members.next, %counted ]
  %g.at = getelementptr [1024 x %worker], ptr @workers, i64 0, i64 %g
  %came = call i1 @came(ptr %g.at, i32 %called, ptr %deadline)
  br i1 %came, label %number, label %counted
number:
  %index = zext i32 %members to i64
  %index.at = getelementptr %worker, ptr %g.at, i32 0, i32 1
  store i64 %index, ptr %index.at
  br label %counted
counted:
  %one = zext i1 %came to i32
  %members.next = add i32 %members, %one
  %g.next = add i64 %g, 1
  %gather.more = icmp ult i64 %g.next, %others
  br i1 %gather.more, label %gather, label %start
start:
  %helpers = sub i32 %members.next, 1
  store i32 %members.next, ptr @size
  store atomic i32 %helpers, ptr @pending monotonic, align 4
  store atomic i32 %job, ptr @go release, align 4
  call void @wake(ptr @go)
  call void @member(i64 0)
  br label %finish
finish:
  %left = load atomic i32, ptr @pending acquire, align 4
  %all = icmp eq i32 %left, 0
  br i1 %all, label %done, label %wait
wait:
  call i32 @await(ptr @pending, i32 %left, i64 %spin)
  br label %finish
done:
  %ran = zext i32 %members.next to i64
  store atomic i32 0, ptr @busy release, align 4
  ret i64 %ran
}

attributes #0 = { nounwind }
