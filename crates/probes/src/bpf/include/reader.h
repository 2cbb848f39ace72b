/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Reads a message's bytes from the program's memory: a cursor that only moves forward, over any number of segments. */
#pragma once

enum source_kind {
	SOURCE_NONE,
	SOURCE_BUFFER,
	SOURCE_VECTOR,
	SOURCE_SEGMENTS, /* a vector that is the kernel's own */
	SOURCE_RECEIVED, /* what is kept of packets */
	SOURCE_UNKNOWN,
};

/* What io_uring has received (uring.h): kept with the thread until the message has ended. */
#define RECEIVED_MAX 16384
/* Of each packet but the first. */
#define PIECE_MAX 4096

/* Where the walk through a packet is (packet.h). */
struct walk {
	__u64 linear; /* the packet's first part */
	__u64 fragments; /* descriptions of the others */
	__u64 page_structs; /* of the first page of all memory, and that page */
	__u64 pages;
	__u32 linear_length;
	__u32 count; /* of fragments */
	__u32 part; /* 0: the linear one */
	__u32 begins; /* place of the part in the packet */
	__u32 at; /* the next byte that is wanted */
	__u32 left;
	__u32 to; /* from `last` on */
	__u32 pad;
};

struct received {
	__u64 sk; /* 0: nothing is kept */
	struct walk walk;
	__u32 length; /* of all pieces */
	__u32 copied; /* first bytes of them */
	__u32 tail; /* last bytes of them */
	__u32 pad;
	__u8 last[TAIL_MAX];
	__u8 data[RECEIVED_MAX + PIECE_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct received);
} received SEC(".maps");

#define VECTOR_MAX 1024 /* the kernel takes no more segments in one call (UIO_MAXIOV) */

struct source {
	__u64 address; /* of the bytes, or of an array of struct user_iovec */
	__u32 count;
	__u32 kind;
	__u32 skip; /* bytes of the first segment that are no part of it */
	__u32 pad;
};

/*
 * Clamps a value in place and hides it from the optimizer, so that the verifier sees the bound on the register that is
 * used.
 */
#define BOUND(value, max)                       \
	do {                                    \
		asm volatile("" : "+r"(value)); \
		if ((value) > (max))            \
			(value) = (max);        \
		asm volatile("" : "+r"(value)); \
	} while (0)

/* Of what io_uring has received its first bytes are kept, and its last ones. */
static __always_inline void read_received(struct reader *r, __u32 length)
{
	struct received *kept = bpf_task_storage_get(&received, (void *)bpf_get_current_task_btf(), 0, 0);

	r->left = 0;
	if (!kept)
		return;
	r->base = (__u64)kept->data;
	r->left = kept->copied < length ? kept->copied : length;
	if (kept->copied < length) {
		r->last = (__u64)kept->last;
		r->last_count = kept->tail;
	}
}

static __always_inline long read_memory(bool of_kernel, void *to, __u32 size, __u64 from)
{
	return of_kernel ? bpf_probe_read_kernel(to, size, (void *)from) : bpf_probe_read_user(to, size, (void *)from);
}

static __always_inline void begin_reading(struct reader *r, const struct source *source, __u32 length)
{
	r->last_count = 0;
	r->kernel_segments = source->kind == SOURCE_SEGMENTS;
	r->kernel_bytes = source->kind == SOURCE_RECEIVED;
	r->passed_over = source->skip;
	r->at = 0;
	r->filled = 0;
	r->failed = 0;
	r->next = 0;
	r->loaded = 0;
	if (source->kind == SOURCE_RECEIVED) {
		r->segments = 0;
		read_received(r, length);
	} else if (source->kind == SOURCE_VECTOR || source->kind == SOURCE_SEGMENTS) {
		r->vector = source->address;
		r->segments = source->count;
		r->left = 0;
	} else {
		r->base = source->address;
		r->segments = 0;
		r->left = source->kind == SOURCE_BUFFER ? length : 0;
	}
}

/* Steps to the next segment; false if there is none. Reading user memory costs much, whatever the size. */
static __always_inline bool next_segment(struct reader *r)
{
	__u64 i = r->next;
	struct user_iovec *segment;

	if (i >= r->loaded) {
		__u64 count = r->segments;

		if (!count)
			return false;
		BOUND(count, WINDOW);
		if (read_memory(r->kernel_segments, r->window, count * sizeof(r->window[0]), r->vector)) {
			r->failed = 1;
			return false;
		}
		r->vector += count * sizeof(r->window[0]);
		r->segments -= count;
		r->loaded = count;
		i = 0;
	}
	BOUND(i, WINDOW - 1);
	segment = &r->window[i];
	r->next = i + 1;
	r->base = segment->base + r->passed_over;
	r->left = segment->length > 0x7fffffff ? 0x7fffffff : segment->length - r->passed_over;
	r->passed_over = 0;
	return true;
}

/* One step towards `until`; 1 when there is nothing more to do. A function of its own, so that it is verified once. */
__noinline int read_step(struct scratch *s)
{
	struct reader *r;
	__u64 n, to;

	if (!s)
		return 1;
	r = &s->reader;
	if (r->at >= r->until)
		return 1;
	if (!r->left && !next_segment(r))
		return 1;
	n = r->until - r->at;
	if (n > r->left)
		n = r->left;
	if (!r->skip && n) {
		to = r->filled;
		BOUND(n, STEP_MAX);
		BOUND(to, COPY_MAX);
		if (read_memory(r->kernel_bytes, &s->data[to], n, r->base)) {
			r->failed = 1;
			return 1;
		}
		r->filled = to + n;
	}
	r->base += n;
	r->left -= n;
	r->at += n;
	return 0;
}

/* Moves on to a position of the message, and appends the bytes before it to `data` unless they are skipped. */
__noinline int read_until(struct scratch *s, __u32 until, __u32 skip)
{
	if (!s)
		return 0;
	s->reader.until = until;
	s->reader.skip = skip;
	for (__u32 i = 0; i < VECTOR_MAX + COPY_MAX / STEP_MAX + 1; i++)
		if (read_step(s) || s->reader.at >= s->reader.until)
			break;
	return 0;
}
