/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Which of a message's bytes are copied, and the events that carry them: one, or several split where heads begin. */
#pragma once

#define PIECES_MAX 64
/* A message so short is always copied whole: that costs no more than to look how it begins. */
#define SHORT_MAX (TAIL_MAX + 4)

static __always_inline void forget_head(struct follow *f)
{
	f->next = 0;
	f->head = 0;
}

#define LINE_ENDS 0x0a0d0a0d /* "\r\n\r\n" */

/* Keeps what tells, should the next message be of this direction, whether a head goes on in it. */
static __always_inline void pass_unsearched(struct scratch *s, struct follow *f)
{
	__u32 filled = s->reader.filled, last;

	forget_head(f);
	if (!filled)
		return;
	last = filled < 4 ? 0 : word_at(s, filled - 4);
	if (last == LINE_ENDS)
		return;
	f->carry = CARRY_TEXT;
	if (last >> 24 == '\n')
		f->carry = CARRY_NOTHING;
	else if (last >> 16 == 0x0d0a)
		f->carry = CARRY_RETURN;
	f->body = word_at(s, 0);
	f->unsearched = filled;
	f->next = s->message.position + filled;
}

/* Whether the message before may be the beginning of a head: that was not searched, as it was the first one of its kind. */
static __always_inline bool goes_on(struct scratch *s, struct follow *f, __u32 unsearched)
{
	return unsearched && f->next == s->message.position && is_sign(f->body, unsearched);
}

/* What was read of a head is all that is copied of it. */
static __always_inline int cut_head(struct scratch *s)
{
	if (s->scan.end || s->scan.body != LENGTH_OF_GUESS)
		s->message.flags |= MESSAGE_HEAD_CUT;
	return 1;
}

/* Goes to the end of a head, or reads on; 1 when nothing is left to be done. */
__noinline int follow_step(struct scratch *s, struct follow *f)
{
	struct reader *r;
	struct scan *h;
	__u32 filled, left, size, grow = GROWTH;
	__u64 next;

	if (!s || !f)
		return 1;
	r = &s->reader;
	h = &s->scan;
	filled = r->filled;
	left = s->length - r->at;
	scan_head(s);
	if (h->end) {
		next = h->end + h->body;
		if (h->body >= LENGTH_OF_GUESS)
			return 1;
		if (next >= filled) {
			f->next = s->message.position + next;
			return 1;
		}
		if (next + 4 > filled && !left) {
			size = filled - next;
			if (!is_sign(word_at(s, next), size))
				return 1;
			f->next = s->message.position + filled;
			f->head = size;
			f->body = 0;
			f->carry = CARRY_TEXT;
			/* The first line has no length. */
			f->line_length = LINE_MAX + 1;
			return 1;
		}
		if (next + 4 <= filled) {
			if (!is_sign(word_at(s, next), 4))
				return 1;
			begin_scan(h, next);
			return 0;
		}
		/* Of the next head only the first bytes are there. */
		grow = 4;
	} else {
		if (h->at < filled)
			return 0;
		size = h->before + filled - h->start;
		if (!left) {
			f->next = s->message.position + filled;
			f->head = size;
			f->body = h->body;
			carry_line(s, f);
			return 1;
		}
		if (size >= head_bytes)
			return cut_head(s);
		if (grow > head_bytes - size)
			grow = head_bytes - size;
	}
	if (filled >= COPY_MAX && !h->end && h->body != LENGTH_OF_GUESS) {
		/* The next piece goes on with it. */
		f->next = s->message.position + filled;
		f->head = size;
		f->body = h->body;
		carry_line(s, f);
		return 1;
	}
	if (filled >= COPY_MAX)
		return cut_head(s);
	if (grow > COPY_MAX - filled)
		grow = COPY_MAX - filled;
	if (grow > left)
		grow = left;
	read_until(s, r->at + grow, 0);
	return r->filled == filled ? cut_head(s) : 0;
}

/*
 * Follows the heads in what has been read of a piece, and reads on while a head is not at its end. Leaves in `f` where the
 * next one begins, as far as that can be told.
 */
static __always_inline void follow_heads(struct scratch *s, struct follow *f)
{
	forget_head(f);
	for (__u32 i = 0; i < 256; i++)
		if (follow_step(s, f))
			return;
	s->message.flags |= MESSAGE_HEAD_CUT;
}

/* Reads the beginning of a message: `limit` bytes, more where a head goes on, none of a body in which enough was copied. */
__noinline int read_beginning(struct scratch *s, struct follow *f, __u32 limit)
{
	struct reader *r;
	struct scan *h;
	__u32 want = limit, unsearched;
	bool looking = false;

	if (!s || !f)
		return 0;
	r = &s->reader;
	h = &s->scan;
	unsearched = f->unsearched;
	f->unsearched = 0;
	if (f->next && f->next < s->message.position)
		forget_head(f);
	if (!want) {
		/* Nothing begins within a body of known length. */
		if (!f->head && f->next >= s->message.position + s->length && s->length > SHORT_MAX)
			return 0;
		looking = !f->head && s->length > SHORT_MAX;
		want = looking ? 4 : s->limit;
	}
	if (want > s->length)
		want = s->length;
	/* What is before the next head is a piece of its own. */
	if (!f->head && f->next > s->message.position && f->next - s->message.position < want)
		want = f->next - s->message.position;
	read_until(s, want, 0);
	if (r->filled == s->length && !f->head && !s->follow_short) {
		/* The usual request or answer, from its first byte to its last: no time to be lost. */
		pass_unsearched(s, f);
		return 0;
	}
	begin_scan(h, 0);
	if (f->head && f->next == s->message.position) {
		resume_scan(h, f);
	} else if (!is_sign(word_at(s, 0), r->filled)) {
		if (goes_on(s, f, unsearched))
			f->in_pieces = 1;
		if (!s->follow_short || !goes_on(s, f, unsearched)) {
			if (looking)
				r->filled = 0;
			return 0;
		}
		h->before = unsearched;
		h->carry = f->carry;
		h->body = LENGTH_OF_GUESS;
	}
	if (looking) {
		want = s->limit < s->length ? s->limit : s->length;
		read_until(s, want, 0);
	}
	follow_heads(s, f);
	return 0;
}

static __always_inline __u32 submit_piece(struct scratch *s)
{
	__u64 size = sizeof(s->message) + s->message.payload_length + s->message.tail_length;

	if (size > sizeof(s->message) + COPY_MAX + TAIL_MAX)
		return OUTCOME_STATE_FULL;
	/* Of what this CPU has submitted, and not of what waits in the ring: that would be one more call. */
	if (bpf_ringbuf_output(&events, s, size, wake_flag(s->submitted, size)))
		return OUTCOME_RING_FULL;
	s->submitted += size + 8;
	return OUTCOME_SUBMITTED;
}

/* Submits the first `length` bytes of a message as a piece of its own; what is behind them is the message then. */
static __always_inline void split_message(struct scratch *s, __u32 length)
{
	__u32 left = s->message.length - length;

	s->message.length = length;
	s->message.payload_length = s->reader.filled;
	count_message(submit_piece(s));
	s->message.position += length;
	s->message.length = left;
	s->message.arrived = 0;
	s->message.flags = (s->message.flags & MESSAGE_COUNTED) | MESSAGE_PART;
	s->message.unseen = 0;
}

/* Goes on to the next head if it begins in this message, behind what was copied; submits what is before it. */
__noinline int split_at_head(struct scratch *s, struct follow *f)
{
	struct reader *r;
	__u64 filled, offset, base;
	__u32 sign, count;

	if (!s || !f)
		return 0;
	r = &s->reader;
	base = s->message.position + s->message.length - s->length;
	offset = f->next - base;
	if (f->head || !f->next || f->next < base || offset < r->at || offset >= s->length)
		return 0;
	filled = r->filled;
	if (s->length - offset < 4) {
		/* The first bytes of a head, which the tail has. */
		f->head = s->length - offset;
		f->carry = CARRY_TEXT;
		f->line_length = LINE_MAX + 1;
		f->body = 0;
		f->next = base + s->length;
		return 0;
	}
	read_until(s, offset, 1);
	if (r->at == offset)
		read_until(s, offset + 4, 0);
	sign = word_at(s, filled);
	count = r->filled - filled;
	r->filled = filled;
	forget_head(f);
	if (count < 4 || !is_sign(sign, 4))
		return 0;
	split_message(s, base + offset - s->message.position);
	*(__u32 *)s->data = sign;
	r->filled = 4;
	count = s->limit < s->length - offset ? s->limit : s->length - offset;
	read_until(s, offset + count, 0);
	begin_scan(&s->scan, 0);
	follow_heads(s, f);
	return 1;
}

/* Goes on in a head that fills what one event may carry; submits what is before. */
__noinline int continue_head(struct scratch *s, struct follow *f)
{
	struct reader *r;
	struct scan *h;

	if (!s || !f)
		return 0;
	r = &s->reader;
	h = &s->scan;
	if (!f->head || r->filled < COPY_MAX || r->failed || r->at >= s->length ||
	    f->next != s->message.position + r->filled)
		return 0;
	split_message(s, r->filled);
	r->filled = 0;
	begin_scan(h, 0);
	resume_scan(h, f);
	read_until(s, r->at + GROWTH < s->length ? r->at + GROWTH : s->length, 0);
	follow_heads(s, f);
	return 1;
}

/* The tail of a message whose last bytes are kept beside it. */
static __always_inline void append_last(struct scratch *s)
{
	struct reader *r = &s->reader;
	__u64 n = s->length - r->at, to = r->filled;

	if (n > r->last_count)
		n = r->last_count;
	BOUND(n, TAIL_MAX);
	BOUND(to, COPY_MAX);
	if (n && !bpf_probe_read_kernel(&s->data[to], n, (void *)(r->last + r->last_count - n)))
		s->message.tail_length = n;
}

/* Copies what is wanted of a message that is read from `s->reader`, and submits it; its outcome is that of the last piece. */
__noinline int submit_message(struct scratch *s, struct follow *f, __u32 limit)
{
	struct reader *r;
	__u32 end;

	if (!s || !f)
		return OUTCOME_STATE_FULL;
	r = &s->reader;
	read_beginning(s, f, limit);
	for (__u32 i = 0; i < PIECES_MAX; i++) {
		int more = split_at_head(s, f);

		if (!more)
			more = continue_head(s, f);
		/* Kernel 6.1 refuses a loop that goes on right behind a call (a back-edge to it). */
		asm volatile("" : "+r"(more));
		if (!more)
			break;
	}
	if (limit && !r->filled)
		COUNT(copy_faults);
	s->message.payload_length = r->filled;
	end = s->length;
	if (r->last_count) {
		append_last(s);
	} else if (r->at < end && !r->failed) {
		if (end - r->at > TAIL_MAX)
			read_until(s, end - TAIL_MAX, 1);
		read_until(s, end, 0);
		/* Part of a tail would be taken for something else. */
		if (r->at == end)
			s->message.tail_length = r->filled - s->message.payload_length;
	}
	return submit_piece(s);
}
