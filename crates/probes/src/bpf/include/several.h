/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Which message of one sendmmsg or recvmmsg it is that a socket sends or receives now. The call's registers do not say
 * it, so each thread's messages are counted, from the first that is surely a call's first one.
 */
#pragma once

/* More the kernel does not send in one call. */
#define SEND_MULTIPLE_MAX 1024

/* Segments of a message that are counted. */
#define ROOM_SEGMENTS_MAX 32

/* When the programs were attached, as threads' starts are counted; 0: not yet. */
__u64 attached_at;
/* A message could not be counted once: from then on no count is trusted. */
__u32 miscounted;

/* The last such call of a thread. */
struct several {
	__u64 sk;
	__u64 vector;
	__u32 count;
	__u32 next; /* message */
	__u32 call; /* 0: none was seen */
	__u32 counted; /* `next` is true */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct several);
} several SEC(".maps");

/* The bytes that a message may have: of all its segments. -1: they cannot be counted. */
static __noinline long vector_room(__u64 header)
{
	struct user_vector vector;
	__u64 sum = 0;

	header += __builtin_offsetof(struct user_msghdr, iov);
	if (bpf_probe_read_user(&vector, sizeof(vector), (void *)header) || vector.iov_count > ROOM_SEGMENTS_MAX)
		return -1;
	for (__u32 i = 0; i < ROOM_SEGMENTS_MAX; i++) {
		struct user_iovec segment;

		if (i >= vector.iov_count)
			break;
		if (bpf_probe_read_user(&segment, sizeof(segment), (void *)(vector.iov + i * sizeof(segment))))
			return -1;
		sum += segment.length;
	}
	return sum > 0x7fffffff ? -1 : sum;
}

/*
 * The header of the current message, 0 if that is not known. To be asked for each message of such a call, also for one
 * that fails or is empty: a call ends with an error, with a part of a message sent, or with its last message. (The
 * caller leaves out calls that may end otherwise.)
 */
static __always_inline __u64 current_header(struct sock *sk, __u32 call, __u64 vector, __u32 count, int ret)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct several *s = bpf_task_storage_get(&several, (void *)task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	bool counted;
	__u64 header;
	long room;

	if (!s) {
		miscounted = 1;
		return 0;
	}
	if (s->sk != (__u64)sk || s->vector != vector || s->count != count || s->call != call) {
		/* Another call than the last one. Before the first, there may be messages that nobody saw. */
		s->counted = s->call || (attached_at && task->start_boottime > attached_at);
		s->sk = (__u64)sk;
		s->vector = vector;
		s->count = count;
		s->call = call;
		s->next = 0;
	}
	header = vector + (__u64)s->next * sizeof(struct user_mmsghdr);
	counted = s->counted;
	if (ret < 0) {
		s->next = 0;
		s->counted = 1;
		return 0;
	}
	if (!counted)
		return 0;
	room = vector_room(header);
	if (room < ret) {
		s->counted = 0;
		return 0;
	}
	s->next++;
	if (s->next >= count || (call == CALL_SENDMMSG && ret < room))
		s->next = 0;
	return miscounted ? 0 : header;
}
