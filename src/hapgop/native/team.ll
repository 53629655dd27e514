; A team of threads that calls one function together: workers wait, `launch` calls them, they run, `launch` returns.
;
; Whoever waits spins for a while and then sleeps in the kernel (a futex): see @await. Nothing here allocates, and no
; state is kept but the globals below; they are the whole of it, and @reset makes them new in a forked child.
;
; Appended by threads.py: @relax (the CPU's hint that this is a waiting loop) and @futex_call (the system call's number).

; A word that threads wait on: its value, and how many sleep until it changes. Each has its cache lines for itself, two,
; since CPUs fetch them in pairs.
%word = type { i32, i32, [30 x i32] }
; A worker: its state, job + one of 0 (has nothing), 1 (is called), 2 (is here), 3 (came too late); its number in the team;
; the core that it was last on.
%worker = type { %word, i64, i32, [29 x i32] }

@busy = internal global %word zeroinitializer, align 128      ; 1 while a team works
@go = internal global %word zeroinitializer, align 128        ; the job whose team is complete and may begin
@pending = internal global %word zeroinitializer, align 128   ; members that have not finished, without the caller
@arrived = internal global %word zeroinitializer, align 128   ; members at the barrier
@phase = internal global %word zeroinitializer, align 128     ; barriers passed
@workers = internal global [1024 x %worker] zeroinitializer, align 128

@seats = internal global [1024 x i32] zeroinitializer, align 128 ; 1 + the worker that came to a core last
@job = internal global i32 0, align 128                       ; of the latest launch, a multiple of 4
@run = internal global ptr null                               ; what the team calls, and its first argument
@data = internal global ptr null
@size = internal global i32 0                                 ; how many are in the team
@core = internal global i32 0                                 ; where the caller is
@spin = internal global i64 0                                 ; for how many nanoseconds its members wait awake

@idle_spin = internal global i64 0                            ; for how long workers without work wait awake
@team_spin = internal global i64 0                            ; for how long members wait awake for one another
@cores = internal global i64 1                                ; with more threads than this, nobody waits awake for long

declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)

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

; Nanoseconds of the clock that only goes forward.
define internal i64 @now() #0 {
  %time = alloca { i64, i64 }
  call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %fraction.at = getelementptr { i64, i64 }, ptr %time, i32 0, i32 1
  %fraction = load i64, ptr %fraction.at
  %whole = mul i64 %seconds, 1000000000
  %total = add i64 %whole, %fraction
  ret i64 %total
}

; Waits until a word is no longer `old`, awake for at most `spin` nanoseconds; returns its new value.
;
; A thread that spins on a core that another one wants keeps it from its work, and that may be the very one it waits for.
; So it offers the core again and again, and when it sees that somebody took it, it sleeps at once.
define internal i32 @await(ptr %word, i32 %old, i64 %spin) #0 {
  br label %quick
quick:                                                        ; a microsecond or a few, without asking for the time
  %i = phi i32 [ 0, %0 ], [ %i.next, %quick.again ]
  %v1 = load atomic i32, ptr %word acquire, align 4
  %same1 = icmp eq i32 %v1, %old
  br i1 %same1, label %quick.again, label %changed1
quick.again:
  call void @relax()
  %i.next = add i32 %i, 1
  %quick.more = icmp ult i32 %i.next, 128
  br i1 %quick.more, label %quick, label %timed
changed1:
  ret i32 %v1
timed:
  %may = icmp sgt i64 %spin, 0
  br i1 %may, label %begin, label %sleep
begin:
  %start = call i64 @now()
  br label %turn
turn:
  %before = phi i64 [ %start, %begin ], [ %after, %turn.again ]
  br label %look
look:
  %j = phi i32 [ 0, %turn ], [ %j.next, %look.again ]
  %v2 = load atomic i32, ptr %word acquire, align 4
  %same2 = icmp eq i32 %v2, %old
  br i1 %same2, label %look.again, label %changed2
look.again:
  call void @relax()
  %j.next = add i32 %j, 1
  %look.more = icmp ult i32 %j.next, 128
  br i1 %look.more, label %look, label %offer
changed2:
  ret i32 %v2
offer:
  call i32 @sched_yield()
  %after = call i64 @now()
  %gap = sub i64 %after, %before
  %taken = icmp ugt i64 %gap, 50000                           ; a turn takes a tenth of this, unless somebody else ran
  br i1 %taken, label %sleep, label %turn.again
turn.again:
  %spent = sub i64 %after, %start
  %enough = icmp ugt i64 %spent, %spin
  br i1 %enough, label %sleep, label %turn
sleep:
  %sleepers = getelementptr %word, ptr %word, i32 0, i32 1
  atomicrmw add ptr %sleepers, i32 1 seq_cst
  fence seq_cst
  br label %check
check:
  %v3 = load atomic i32, ptr %word seq_cst, align 4
  %same3 = icmp eq i32 %v3, %old
  br i1 %same3, label %rest, label %awake
rest:                                                         ; FUTEX_WAIT_PRIVATE; returns at once if the word has changed
  %futex = load i64, ptr @futex_call
  call i64 (i64, ...) @syscall(i64 %futex, ptr %word, i64 128, i32 %old, ptr null)
  br label %check
awake:
  atomicrmw sub ptr %sleepers, i32 1 seq_cst
  ret i32 %v3
}

; Wakes whoever sleeps on a word, which has just been changed.
define internal void @wake(ptr %word) #0 {
  fence seq_cst
  %sleepers.at = getelementptr %word, ptr %word, i32 0, i32 1
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %none = icmp eq i32 %sleepers, 0
  br i1 %none, label %done, label %call
call:                                                         ; FUTEX_WAKE_PRIVATE, everyone
  %futex = load i64, ptr @futex_call
  call i64 (i64, ...) @syscall(i64 %futex, ptr %word, i64 129, i32 2147483647)
  br label %done
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

; Leaves a core that the caller or a worker of a lower number is on; `number` is smaller than there are cores, less one.
;
; In virtual machines idle cores can look taken, and a thread that is woken then starts on the core of the one that woke
; it, or of another that was. Members of a team would share a core for milliseconds, while another one is idle.
define internal void @part(i64 %number) #0 {
  %here = call i32 @sched_getcpu()
  %worker = getelementptr [1024 x %worker], ptr @workers, i64 0, i64 %number
  %core.at = getelementptr %worker, ptr %worker, i32 0, i32 2
  %known = icmp ult i32 %here, 1024
  br i1 %known, label %ask, label %done
ask:
  %here64 = zext i32 %here to i64
  %seat.at = getelementptr [1024 x i32], ptr @seats, i64 0, i64 %here64
  %owner = load atomic i32, ptr %seat.at monotonic, align 4
  %me.number = trunc i64 %number to i32
  %me = add i32 %me.number, 1
  %caller = load atomic i32, ptr @core monotonic, align 4
  %callers = icmp eq i32 %here, %caller
  br i1 %callers, label %change, label %others
others:
  %mine = icmp eq i32 %owner, %me
  br i1 %mine, label %done, label %lower
lower:
  %owner.before = sub i32 %owner, 1                           ; of an empty seat the largest number there is
  %first = icmp ult i32 %owner.before, %me.number
  br i1 %first, label %still, label %sit
still:
  %owner64 = zext i32 %owner.before to i64
  %theirs.at = getelementptr [1024 x %worker], ptr @workers, i64 0, i64 %owner64, i32 2
  %theirs = load atomic i32, ptr %theirs.at monotonic, align 4
  %there = icmp eq i32 %theirs, %here
  br i1 %there, label %change, label %sit
change:
  call void @leave(i64 %number, i32 %caller)
  %new = call i32 @sched_getcpu()
  %fine = icmp ult i32 %new, 1024
  br i1 %fine, label %sit, label %done
sit:
  %seat = phi i32 [ %here, %lower ], [ %here, %still ], [ %new, %change ]
  %seat64 = zext i32 %seat to i64
  %taken.at = getelementptr [1024 x i32], ptr @seats, i64 0, i64 %seat64
  store atomic i32 %me, ptr %taken.at monotonic, align 4
  store atomic i32 %seat, ptr %core.at monotonic, align 4
  br label %done
done:
  ret void
}

; Has this thread put on a core where neither the caller nor a lower worker is, if there is one.
define internal void @leave(i64 %number, i32 %caller) #0 {
  %all = alloca [16 x i64], align 8                           ; a bit for each of 1024 cores
  %free = alloca [16 x i64], align 8
  %size = call i32 @sched_getaffinity(i32 0, i64 128, ptr %all)
  %fine = icmp eq i32 %size, 0
  br i1 %fine, label %copy, label %done
copy:
  %bits = load [16 x i64], ptr %all
  store [16 x i64] %bits, ptr %free
  br label %clear
clear:
  %i = phi i64 [ 0, %copy ], [ %i.next, %clear.next ]
  %core = phi i32 [ %caller, %copy ], [ %theirs, %clear.next ]
  %known = icmp ult i32 %core, 1024
  br i1 %known, label %remove, label %cleared
remove:
  %part = lshr i32 %core, 6
  %part64 = zext i32 %part to i64
  %part.at = getelementptr [16 x i64], ptr %free, i64 0, i64 %part64
  %bit = and i32 %core, 63
  %bit64 = zext i32 %bit to i64
  %mask = shl i64 1, %bit64
  %without = xor i64 %mask, -1
  %before = load i64, ptr %part.at
  %after = and i64 %before, %without
  store i64 %after, ptr %part.at
  br label %cleared
cleared:
  %more = icmp ult i64 %i, %number
  br i1 %more, label %clear.next, label %move
clear.next:
  %theirs.at = getelementptr [1024 x %worker], ptr @workers, i64 0, i64 %i, i32 2
  %theirs = load atomic i32, ptr %theirs.at monotonic, align 4
  %i.next = add i64 %i, 1
  br label %clear
move:                                                         ; fails where there is no such core: nothing is lost
  call i32 @sched_setaffinity(i32 0, i64 128, ptr %free)
  call i32 @sched_setaffinity(i32 0, i64 128, ptr %all)
  br label %done
done:
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
