; Which worker is on which core, so that no two are on one.

@seats = internal global [1024 x i32] zeroinitializer, align 128 ; 1 + the worker that came to a core last

declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)

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
