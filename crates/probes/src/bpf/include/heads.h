/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Heads of text protocols: lines up to an empty one, among them perhaps the length of what follows. How a head begins and
 * what the line with the length is called, user space says. They are followed so that a long head is copied to its end, and
 * that a head behind a body is found.
 */
#pragma once

#define SIGNS_MAX 32
#define LABEL_MAX 16
#define LENGTH_UNKNOWN (~0ULL)
/* The same, and whether it is a head that goes on is not known either. */
#define LENGTH_OF_GUESS (~1ULL)

/* The first four bytes of each head. */
const volatile __u32 head_signs[SIGNS_MAX];
const volatile __u32 head_sign_count;
/* The name of the line with the length, in lower case, with its colon; and which of its bytes are letters. */
const volatile __u64 head_label[2];
const volatile __u64 head_label_used[2];
const volatile __u64 head_label_letters[2];
const volatile __u32 head_label_length;
/* Up to where a head is copied. */
const volatile __u32 head_bytes = 16384;

/* Bytes by which a copy grows while a head goes on. */
#define GROWTH 2048

/* How much of a line came in an earlier message. */
enum carry { CARRY_NOTHING, CARRY_RETURN, CARRY_TEXT };

/* Whether a head may begin with these bytes, of which `count` are known. */
__noinline int is_sign(__u32 bytes, __u32 count)
{
	__u32 known = count >= 4 ? ~0U : (1U << (8 * (count & 3))) - 1;

	if (!count)
		return 0;
	for (__u32 i = 0; i < SIGNS_MAX; i++) {
		if (i >= head_sign_count)
			break;
		if (!((bytes ^ head_signs[i]) & known))
			return 1;
	}
	return 0;
}

static __always_inline __u32 word_at(struct scratch *s, __u64 index)
{
	BOUND(index, COPY_MAX);
	return *(__u32 *)&s->data[index];
}

/* Reads a byte of the number behind the label; 1 at its end. */
__noinline int length_step(struct scratch *s)
{
	struct scan *h;
	__u64 place;
	__u8 byte;

	if (!s)
		return 1;
	h = &s->scan;
	place = h->place++;
	if (h->in_line) {
		BOUND(place, 2 * LINE_MAX - 1);
		byte = h->joined[place];
	} else {
		BOUND(place, COPY_MAX);
		byte = s->data[place];
	}
	if (byte >= '0' && byte <= '9' && h->digits < 15) {
		h->value = h->value * 10 + byte - '0';
		h->digits++;
		return 0;
	}
	if (byte == '\r' || byte == '\n') {
		if (h->digits)
			h->body = h->value;
		return 1;
	}
	return h->digits || (byte != ' ' && byte != '\t');
}

/* Anything but one number leaves the length unknown. */
static __always_inline void read_length(struct scratch *s)
{
	s->scan.body = LENGTH_UNKNOWN;
	s->scan.value = 0;
	s->scan.digits = 0;
	s->scan.place = (s->scan.in_line ? 0 : s->scan.line) + head_label_length;
	for (__u32 i = 0; i < 32; i++)
		if (length_step(s))
			break;
}

static __always_inline bool is_label(const __u8 *line)
{
	__u64 first = *(__u64 *)line, second = *(__u64 *)(line + 8);

	return ((first & head_label_used[0]) | head_label_letters[0]) == head_label[0] &&
	       ((second & head_label_used[1]) | head_label_letters[1]) == head_label[1];
}

/* Adds bytes of `data` to what earlier messages brought of the current line. */
__noinline int join_line(struct scratch *s, __u32 from, __u32 count)
{
	struct scan *h;
	__u64 to, n = count;

	if (!s)
		return 0;
	h = &s->scan;
	to = h->line_length;
	if (to > LINE_MAX)
		return 0;
	h->line_length += count;
	if (n > LINE_MAX)
		n = LINE_MAX;
	BOUND(n, LINE_MAX);
	BOUND(to, LINE_MAX);
	BOUND(from, COPY_MAX);
	if (n && bpf_probe_read_kernel(&h->joined[to], n, &s->data[from]))
		h->line_length = LINE_MAX + 1;
	return 0;
}

/* The end of a line that began in an earlier message: `count` bytes of it are in `data`. */
static __always_inline void end_joined_line(struct scratch *s, __u32 count)
{
	struct scan *h = &s->scan;
	__u64 to = h->line_length;

	join_line(s, h->line, count);
	if (!head_label_length || to < 1 || h->line_length < head_label_length || !is_label(h->joined))
		return;
	h->in_line = 1;
	read_length(s);
	h->in_line = 0;
	/* Of a longer line not all of the number may be there. */
	if (h->line_length > LINE_MAX)
		h->body = LENGTH_UNKNOWN;
}

/* Searches on in `data`, up to the next line end or 32 bytes; 1 when the head has ended or the bytes have. */
__noinline int scan_step(struct scratch *s)
{
	const __u64 ones = 0x0101010101010101ULL;
	struct scan *h;

	if (!s)
		return 1;
	h = &s->scan;
	for (__u32 i = 0; i < 4; i++) {
		__u64 at = h->at, line = h->line, lines;

		if (at >= s->reader.filled)
			return 1;
		BOUND(at, COPY_MAX);
		lines = *(__u64 *)&s->data[at] ^ (ones * '\n');
		lines = (lines - ones) & ~lines & (ones << 7);
		if (!lines) {
			h->at = at + 8;
			continue;
		}
		/* The number of bytes below the lowest line end. */
		at += (((lines - 1) & ones) * ones >> 56) - 1;
		if (at >= s->reader.filled) {
			h->at = at;
			return 1;
		}
		BOUND(line, COPY_MAX);
		if (h->carry == CARRY_NOTHING) {
			if (at == line || (at == line + 1 && s->data[line] == '\r')) {
				h->end = at + 1;
				return 1;
			}
			if (head_label_length && is_label(&s->data[line]))
				read_length(s);
		} else if (h->carry == CARRY_RETURN && at == line) {
			h->end = at + 1;
			return 1;
		} else if (h->carry == CARRY_TEXT && h->body != LENGTH_OF_GUESS) {
			end_joined_line(s, at + 1 - line);
		}
		h->line_length = 0;
		h->carry = CARRY_NOTHING;
		h->at = h->line = at + 1;
		return 0;
	}
	return 0;
}

/* Searches the end of a head in what has been read of it; to be asked again while `at` is before the end of that. */
static __always_inline void scan_head(struct scratch *s)
{
	for (__u32 i = 0; i < 512; i++)
		if (scan_step(s))
			break;
	/* The last word may reach beyond what has been read. */
	if (s->scan.at > s->reader.filled)
		s->scan.at = s->reader.filled;
}

static __always_inline void begin_scan(struct scan *h, __u32 at)
{
	h->at = h->line = h->start = at;
	h->before = 0;
	h->end = 0;
	h->carry = CARRY_NOTHING;
	h->body = 0;
	h->line_length = 0;
	h->in_line = 0;
}

/* What the next message must know of the line that goes on. */
static __always_inline void carry_line(struct scratch *s, struct follow *f)
{
	struct scan *h = &s->scan;
	__u64 line = h->line, rest = s->reader.filled - line;

	BOUND(line, COPY_MAX);
	f->carry = h->carry;
	if (rest == 1 && s->data[line] == '\r' && h->carry == CARRY_NOTHING) {
		f->carry = CARRY_RETURN;
	} else if (rest) {
		/* A return that no line end follows. */
		if (h->carry == CARRY_RETURN)
			h->line_length = LINE_MAX + 1;
		join_line(s, line, rest);
		f->carry = CARRY_TEXT;
	}
	f->line_length = h->line_length;
	__builtin_memcpy(f->line, h->joined, LINE_MAX);
}

/* Goes on in a head that began in an earlier message. */
static __always_inline void resume_scan(struct scan *h, const struct follow *f)
{
	h->before = f->head;
	h->carry = f->carry;
	h->body = f->body;
	h->line_length = f->line_length;
	__builtin_memcpy(h->joined, f->line, LINE_MAX);
}
