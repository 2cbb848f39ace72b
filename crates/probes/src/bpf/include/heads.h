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
	BOUND(place, COPY_MAX);
	byte = s->data[place];
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
	s->scan.place = s->scan.line + head_label_length;
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
		}
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
}

/* What the next message must know of a head that goes on. */
static __always_inline __u8 carried(struct scratch *s)
{
	__u64 line = s->scan.line, rest = s->reader.filled - line;

	BOUND(line, COPY_MAX);
	if (!rest)
		return s->scan.carry;
	if (rest == 1 && s->data[line] == '\r' && s->scan.carry == CARRY_NOTHING)
		return CARRY_RETURN;
	return CARRY_TEXT;
}
