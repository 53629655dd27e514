; How threads wait for a word to change: awake for a while, then asleep in the kernel (a futex).
;
; Added by workers.py: @relax (the CPU's hint that this is a waiting loop) and @futex_call (the system call's number).

; A word that threads wait on: its value, and how many sleep until it changes. Each has its cache lines for itself, two,
; since CPUs fetch them in pairs.
%word = type { i32, i32, [30 x i32] }

declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)

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
