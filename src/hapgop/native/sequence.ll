; A whole net in one call: steps one after the other, by one team of threads that stays together.
;
; `data` points at two words, how many steps there are and where the CPU's clock is noted, at the beginning and after each
; step (or null), and then the steps: the kernel, its data words, and how it is run: 1, by the first thread alone; 2, all
; threads meet behind it.

%step = type { ptr, ptr, i64 }

define void @run(ptr %data, i64 %thread, i64 %threads, ptr %barrier) nounwind {
  %count = load i64, ptr %data
  %times.at = getelementptr i64, ptr %data, i64 1
  %times = load ptr, ptr %times.at
  %steps = getelementptr i64, ptr %data, i64 2
  %first = icmp eq i64 %thread, 0
  %many = icmp ne i64 %threads, 1
  %timed = icmp ne ptr %times, null
  %notes = and i1 %timed, %first
  br i1 %notes, label %begin, label %steady
begin:
  %start = call i64 @llvm.readcyclecounter()
  store i64 %start, ptr %times
  br label %steady
steady:
  %none = icmp eq i64 %count, 0
  br i1 %none, label %done, label %step
step:
  %i = phi i64 [ 0, %steady ], [ %next, %end ]
  %run.at = getelementptr %step, ptr %steps, i64 %i, i32 0
  %run = load ptr, ptr %run.at
  %words.at = getelementptr %step, ptr %steps, i64 %i, i32 1
  %words = load ptr, ptr %words.at
  %how.at = getelementptr %step, ptr %steps, i64 %i, i32 2
  %how = load i64, ptr %how.at
  %alone.bit = and i64 %how, 1
  %alone = icmp ne i64 %alone.bit, 0
  br i1 %alone, label %single, label %together
single:
  br i1 %first, label %mine, label %ran
mine:
  call void %run(ptr %words, i64 0, i64 1, ptr null)
  br label %ran
together:
  call void %run(ptr %words, i64 %thread, i64 %threads, ptr %barrier)
  br label %ran
ran:
  %meet.bit = and i64 %how, 2
  %meet = icmp ne i64 %meet.bit, 0
  %wait = and i1 %meet, %many
  br i1 %wait, label %meeting, label %met
meeting:
  call void %barrier()
  br label %met
met:
  br i1 %notes, label %note, label %end
note:
  %place = add i64 %i, 1
  %time.at = getelementptr i64, ptr %times, i64 %place
  %now = call i64 @llvm.readcyclecounter()
  store i64 %now, ptr %time.at
  br label %end
end:
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %step, label %done
done:
  ret void
}

declare i64 @llvm.readcyclecounter()
