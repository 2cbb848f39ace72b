/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Where a message's bytes are in the program's memory, and copying the wanted ones of them. */
#pragma once

enum source_kind {
	SOURCE_NONE,
	SOURCE_BUFFER,
	SOURCE_VECTOR,
	SOURCE_SEGMENTS, /* a vector that is the kernel's own */
	SOURCE_RECEIVED, /* what is kept of packets */
	SOURCE_UNKNOWN,
};

#define VECTOR_MAX 32

struct source {
	__u64 address; /* of the bytes, or of an array of struct user_iovec */
	__u32 count;
	__u32 kind;
	__u32 skip; /* bytes of the first segment that are no part of it */
	__u32 pad;
};

/*
 * Makes the compiler forget what it knows of a value and the verifier learn its bound, in the same register, right
 * before use.
 */
#define BOUND(value, max)                       \
	do {                                    \
		asm volatile("" : "+r"(value)); \
		if ((value) > (max))            \
			(value) = (max);        \
		asm volatile("" : "+r"(value)); \
	} while (0)

/* A function of its own, verified once: the loop over segments then costs the verifier little. */
__noinline int gather_segment(struct scratch *s)
{
	__u64 end, from, n, to;
	struct gather *g;

	if (!s)
		return 1;
	g = &s->gather;
	end = g->at + g->size;
	if (end > g->length)
		end = g->length;
	if (g->at < g->want) {
		n = (end < g->want ? end : g->want) - g->at;
		to = g->at;
		BOUND(n, COPY_MAX);
		BOUND(to, COPY_MAX);
		if (bpf_probe_read_user(&s->data[to], n, (void *)g->base))
			return 1;
		g->got = g->at + n;
	}
	if (end > g->tail_from) {
		from = g->at > g->tail_from ? g->at : g->tail_from;
		n = end - from;
		to = g->want + (from - g->tail_from);
		BOUND(n, TAIL_MAX);
		BOUND(to, COPY_MAX + TAIL_MAX);
		if (bpf_probe_read_user(&s->data[to], n, (void *)(g->base + (from - g->at))))
			return 1;
		g->tail_got += n;
	}
	return 0;
}

static __always_inline long read_segments(void *to, __u32 size, const struct source *source, __u32 first)
{
	void *from = (void *)(source->address + first * sizeof(struct user_iovec));

	return source->kind == SOURCE_SEGMENTS ? bpf_probe_read_kernel(to, size, from) :
						 bpf_probe_read_user(to, size, from);
}

static __always_inline void gather_vector(struct scratch *s, const struct source *source)
{
	struct gather *g = &s->gather;
	__u32 first = source->count;

	/* Each reading of user memory costs much, whatever its size. */
	BOUND(first, VECTOR_FIRST);
	if (read_segments(g->first, first * sizeof(g->first[0]), source, 0))
		return;
	if (source->skip) {
		g->first[0].base += source->skip;
		g->first[0].length -= source->skip;
	}
	for (__u32 i = 0; i < VECTOR_MAX; i++) {
		struct user_iovec segment;

		if (i >= source->count || g->at >= g->length)
			break;
		if (i < VECTOR_FIRST)
			segment = g->first[i];
		else if (read_segments(&segment, sizeof(segment), source, i))
			break;
		if (!segment.length)
			continue;
		g->base = segment.base;
		g->size = segment.length > g->length ? g->length : segment.length;
		if (gather_segment(s))
			break;
		g->at += g->size;
	}
}

/* Copies up to `want` first bytes and the tail behind them into the scratch. */
static __always_inline void copy_payload(struct scratch *s, const struct source *source, __u64 length, __u64 want)
{
	__u64 tail = 0;

	if (want > length)
		want = length;
	BOUND(want, COPY_MAX);
	if (length > want)
		tail = length - want;
	BOUND(tail, TAIL_MAX);
	if (source->kind == SOURCE_BUFFER) {
		if (want && bpf_probe_read_user(s->data, want, (void *)source->address))
			return;
		s->message.payload_length = want;
		if (tail && !bpf_probe_read_user(&s->data[want], tail, (void *)(source->address + length - tail)))
			s->message.tail_length = tail;
	} else if (source->kind == SOURCE_VECTOR || source->kind == SOURCE_SEGMENTS) {
		struct gather *g = &s->gather;

		__builtin_memset(g, 0, __builtin_offsetof(struct gather, first));
		g->want = want;
		g->length = length;
		g->tail_from = length - tail;
		gather_vector(s, source);
		s->message.payload_length = g->got <= COPY_MAX ? g->got : 0;
		/* Part of a tail, or one behind a gap, would be taken for something else. */
		if (g->got == want && g->tail_got == tail)
			s->message.tail_length = tail;
	}
}
