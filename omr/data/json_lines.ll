; Columns of texts -> JSON lines: what omr/data/json_lines.py calls, in LLVM's assembly language (llvm.org/docs/LangRef).

; What stands behind the backslash for each byte below 32; u for one with four digits.
@letters = private constant [32 x i8] c"uuuuuuuubtnufruuuuuuuuuuuuuuuuuu"
@digits = private constant [16 x i8] c"0123456789abcdef"

declare i32 @llvm.cttz.i32(i32, i1)
declare i64 @llvm.umin.i64(i64, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

; Writes lines from row `first` on to out[used:], as many as surely fit in out[:room]; returns how many.
; Value v of a row r is texts[v][offsets[v][r]:offsets[v][r + 1]], piece p is pieces[cuts[p]:cuts[p + 1]];
; sizes[v] are the bytes at texts[v]. ends[k] becomes the end in `out` of the line that is written k-th.
define i64 @write(i64 %values, ptr %texts, ptr %sizes, ptr %offsets, ptr %pieces, ptr %cuts,
                  i64 %first, i64 %rows, ptr %out, i64 %room, i64 %used, ptr %ends) {
entry:
  %last = add i64 %values, 1
  %constant.at = getelementptr i64, ptr %cuts, i64 %last
  %constant = load i64, ptr %constant.at
  %least = add i64 %constant, 32 ; a block may be stored where one byte is left to copy
  br label %row

row:
  %r = phi i64 [ %first, %entry ], [ %r.next, %end ]
  %begin = phi i64 [ %used, %entry ], [ %stop, %end ]
  %more = icmp slt i64 %r, %rows
  br i1 %more, label %measure, label %done

measure: ; each byte may become six: \u001f
  %m = phi i64 [ 0, %row ], [ %m.next, %measure ]
  %need = phi i64 [ %least, %row ], [ %need.next, %measure ]
  %m.span = call { i64, i64 } @span(ptr %offsets, i64 %m, i64 %r)
  %m.from = extractvalue { i64, i64 } %m.span, 0
  %m.to = extractvalue { i64, i64 } %m.span, 1
  %m.size = sub i64 %m.to, %m.from
  %m.worst = mul i64 %m.size, 6
  %need.next = add i64 %need, %m.worst
  %m.next = add i64 %m, 1
  %m.more = icmp slt i64 %m.next, %values
  br i1 %m.more, label %measure, label %decide

decide:
  %most = add i64 %begin, %need.next
  %fits = icmp sle i64 %most, %room
  br i1 %fits, label %value, label %done

value: ; a piece, and the value behind it
  %v = phi i64 [ 0, %decide ], [ %v.next, %value ]
  %place = phi i64 [ %begin, %decide ], [ %place.next, %value ]
  %v.place = call i64 @piece(ptr %pieces, ptr %cuts, i64 %v, ptr %out, i64 %place)
  %v.span = call { i64, i64 } @span(ptr %offsets, i64 %v, i64 %r)
  %v.from = extractvalue { i64, i64 } %v.span, 0
  %v.to = extractvalue { i64, i64 } %v.span, 1
  %text.at = getelementptr ptr, ptr %texts, i64 %v
  %text = load ptr, ptr %text.at
  %size.at = getelementptr i64, ptr %sizes, i64 %v
  %size = load i64, ptr %size.at
  %place.next = call i64 @put(ptr %text, i64 %size, i64 %v.from, i64 %v.to, ptr %out, i64 %v.place)
  %v.next = add i64 %v, 1
  %v.more = icmp slt i64 %v.next, %values
  br i1 %v.more, label %value, label %end

end:
  %stop = call i64 @piece(ptr %pieces, ptr %cuts, i64 %values, ptr %out, i64 %place.next)
  %k = sub i64 %r, %first
  %end.at = getelementptr i64, ptr %ends, i64 %k
  store i64 %stop, ptr %end.at
  %r.next = add i64 %r, 1
  br label %row

done:
  %written = sub i64 %r, %first
  ret i64 %written
}

; offsets[value][row] and offsets[value][row + 1].
define internal { i64, i64 } @span(ptr %offsets, i64 %value, i64 %row) {
  %column.at = getelementptr ptr, ptr %offsets, i64 %value
  %column = load ptr, ptr %column.at
  %from.at = getelementptr i32, ptr %column, i64 %row
  %from = load i32, ptr %from.at
  %to.at = getelementptr i32, ptr %from.at, i64 1
  %to = load i32, ptr %to.at
  %from.wide = sext i32 %from to i64
  %to.wide = sext i32 %to to i64
  %half = insertvalue { i64, i64 } poison, i64 %from.wide, 0
  %both = insertvalue { i64, i64 } %half, i64 %to.wide, 1
  ret { i64, i64 } %both
}

; Copies a piece to out[place:]; returns the place behind.
define internal i64 @piece(ptr %pieces, ptr %cuts, i64 %number, ptr %out, i64 %place) {
  %from.at = getelementptr i64, ptr %cuts, i64 %number
  %from = load i64, ptr %from.at
  %to.at = getelementptr i64, ptr %from.at, i64 1
  %to = load i64, ptr %to.at
  %size = sub i64 %to, %from
  %source = getelementptr i8, ptr %pieces, i64 %from
  %target = getelementptr i8, ptr %out, i64 %place
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %source, i64 %size, i1 false)
  %behind = add i64 %place, %size
  ret i64 %behind
}

; Escapes text[from:to], of a text of `size` bytes, into out[place:]; returns the place behind.
define internal i64 @put(ptr %text, i64 %size, i64 %from, i64 %to, ptr %out, i64 %place) {
entry:
  br label %next

next:
  %i = phi i64 [ %from, %entry ], [ %i.clean, %block ], [ %i.one, %plain ], [ %i.one, %short ], [ %i.one, %long ]
  %j = phi i64 [ %place, %entry ], [ %j.clean, %block ], [ %j.one, %plain ], [ %j.two, %short ], [ %j.six, %long ]
  %over = icmp uge i64 %i, %to
  br i1 %over, label %done, label %look

look: ; a block must not be read past the text's end
  %source = getelementptr i8, ptr %text, i64 %i
  %target = getelementptr i8, ptr %out, i64 %j
  %reach = add i64 %i, 32
  %inside = icmp ule i64 %reach, %size
  br i1 %inside, label %block, label %byte

block: ; 32 bytes at once: all are copied, those before the first to escape count
  %bytes = load <32 x i8>, ptr %source, align 1
  store <32 x i8> %bytes, ptr %target, align 1
  %control = icmp ult <32 x i8> %bytes, splat (i8 32)
  %quote = icmp eq <32 x i8> %bytes, splat (i8 34)
  %slash = icmp eq <32 x i8> %bytes, splat (i8 92)
  %either = or <32 x i1> %control, %quote
  %any = or <32 x i1> %either, %slash
  %found = bitcast <32 x i1> %any to i32
  %lowest = call i32 @llvm.cttz.i32(i32 %found, i1 false) ; 32 where there is none
  %before = zext i32 %lowest to i64
  %left = sub i64 %to, %i
  %clean = call i64 @llvm.umin.i64(i64 %before, i64 %left)
  %i.clean = add i64 %i, %clean
  %j.clean = add i64 %j, %clean
  %stands = icmp ult i64 %clean, 32
  %within = icmp ult i64 %clean, %left
  %escape = and i1 %stands, %within
  br i1 %escape, label %byte, label %next

byte: ; one byte, that is to be escaped if it comes from a block
  %b.i = phi i64 [ %i, %look ], [ %i.clean, %block ]
  %b.j = phi i64 [ %j, %look ], [ %j.clean, %block ]
  %b.source = getelementptr i8, ptr %text, i64 %b.i
  %b.target = getelementptr i8, ptr %out, i64 %b.j
  %b = load i8, ptr %b.source
  %i.one = add i64 %b.i, 1
  %b.control = icmp ult i8 %b, 32
  %b.quote = icmp eq i8 %b, 34
  %b.slash = icmp eq i8 %b, 92
  %b.either = or i1 %b.quote, %b.slash
  br i1 %b.control, label %control.byte, label %visible

visible:
  br i1 %b.either, label %short, label %plain

plain:
  store i8 %b, ptr %b.target
  %j.one = add i64 %b.j, 1
  br label %next

control.byte:
  %index = zext i8 %b to i64
  %letter.at = getelementptr i8, ptr @letters, i64 %index
  %letter = load i8, ptr %letter.at
  %is.u = icmp eq i8 %letter, 117
  br i1 %is.u, label %long, label %short

short: ; \n
  %behind = phi i8 [ %b, %visible ], [ %letter, %control.byte ]
  store i8 92, ptr %b.target
  %behind.at = getelementptr i8, ptr %b.target, i64 1
  store i8 %behind, ptr %behind.at
  %j.two = add i64 %b.j, 2
  br label %next

long: ; \u001f
  store [4 x i8] c"\5Cu00", ptr %b.target
  %high = lshr i64 %index, 4
  %high.digit.at = getelementptr i8, ptr @digits, i64 %high
  %high.digit = load i8, ptr %high.digit.at
  %high.at = getelementptr i8, ptr %b.target, i64 4
  store i8 %high.digit, ptr %high.at
  %low = and i64 %index, 15
  %low.digit.at = getelementptr i8, ptr @digits, i64 %low
  %low.digit = load i8, ptr %low.digit.at
  %low.at = getelementptr i8, ptr %b.target, i64 5
  store i8 %low.digit, ptr %low.at
  %j.six = add i64 %b.j, 6
  br label %next

done:
  ret i64 %j
}
