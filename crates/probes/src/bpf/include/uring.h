/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Bytes that io_uring receives and sends. It works for a thread in whichever system call that is, so the call's registers
 * say nothing of them. What is received is taken from the packets while the kernel copies it to the reader, and kept with
 * the thread until the message's end tells how long it was; what is sent is where the message's iterator begins.
 */
#pragma once

/* The send that a thread is at. */
struct sending {
	__u64 sk; /* 0: none */
	__u64 address;
	__u32 count;
	__u32 skip; /* bytes of the first segment that are sent already */
	__u32 kind;
	__u32 pad;
	__u64 request; /* that the thread submitted last, if it sends */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sending);
} sending SEC(".maps");

/* A thread that has made or entered a ring, or works for one. */
static __always_inline bool uses_uring(struct task_struct *task)
{
	if (task->flags & PF_IO_WORKER)
		return true;
	return bpf_core_field_exists(task->io_uring) && task->io_uring;
}

/* Where a send begins. Also called for its later segments. */
static __always_inline void begin_sending(struct task_struct *task, struct sock *sk, struct msghdr *message)
{
	struct sending *s = bpf_task_storage_get(&sending, (void *)task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	__u8 type;

	if (!s || s->sk == (__u64)sk)
		return;
	s->sk = (__u64)sk;
	s->kind = SOURCE_NONE;
	s->skip = BPF_CORE_READ(message, msg_iter.iov_offset);
	type = BPF_CORE_READ(message, msg_iter.iter_type);
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
	    type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		s->kind = SOURCE_BUFFER;
		s->address = (__u64)BPF_CORE_READ(message, msg_iter.ubuf) + s->skip;
	} else if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		struct iov_iter___old *old = (void *)message + bpf_core_field_offset(message->msg_iter);

		s->kind = SOURCE_SEGMENTS;
		s->count = BPF_CORE_READ(message, msg_iter.nr_segs);
		if (bpf_core_field_exists(message->msg_iter.__iov))
			s->address = (__u64)BPF_CORE_READ(message, msg_iter.__iov);
		else
			s->address = (__u64)BPF_CORE_READ(old, iov);
	}
}

/* Part of the interface of io_uring. */
enum uring_operation {
	URING_WRITEV = 2,
	URING_WRITE_FIXED = 5,
	URING_SENDMSG = 9,
	URING_WRITE = 23,
	URING_SEND = 26,
	URING_SEND_ZC = 47,
	URING_SENDMSG_ZC = 48,
};
#define URING_BUFFER_SELECT (1 << 5)

static __always_inline bool is_sending(__u8 operation)
{
	return operation == URING_WRITEV || operation == URING_WRITE_FIXED || operation == URING_SENDMSG ||
	       operation == URING_WRITE || operation == URING_SEND || operation == URING_SEND_ZC ||
	       operation == URING_SENDMSG_ZC;
}

/*
 * What the thread's last request sends, if it is about this socket. A request's memory is used again, so all is asked of it
 * now, and a thread with another one in between has none.
 */
static __always_inline void source_of_request(struct source *source, struct sock *sk, __u64 request)
{
	struct io_sr_msg *send = (void *)request;
	struct io_kiocb *head = (void *)request;
	struct io_rw *write = (void *)request;
	__u64 address;
	__u8 operation;

	if (!request || !sk->sk_socket || BPF_CORE_READ(head, file) != sk->sk_socket->file)
		return;
	operation = BPF_CORE_READ(head, opcode);
	if (!is_sending(operation) || BPF_CORE_READ(head, flags) & URING_BUFFER_SELECT)
		return;
	if (operation == URING_WRITE || operation == URING_WRITE_FIXED || operation == URING_WRITEV)
		address = BPF_CORE_READ(write, addr);
	else
		address = (__u64)BPF_CORE_READ(send, buf);
	if (!address)
		return;
	source->address = address;
	if (operation == URING_SENDMSG || operation == URING_SENDMSG_ZC) {
		source_of_header(source, address);
	} else if (operation == URING_WRITEV) {
		source->kind = SOURCE_VECTOR;
		source->count = BPF_CORE_READ(write, len);
	} else {
		source->kind = SOURCE_BUFFER;
	}
}

/* Whether what is kept is of a message that this socket receives: the packets of a Unix stream belong to its peer. */
static __always_inline bool is_received_by(struct sock *sk, __u64 owner)
{
	struct unix_sock *self = (void *)sk;

	if (owner == (__u64)sk)
		return true;
	return unix_sockets && owner && BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX &&
	       owner == (__u64)BPF_CORE_READ(self, peer);
}

/*
 * The bytes of a message that is sent or received now. Ends what is kept of it, so it is also called for messages that
 * fail or are only looked at.
 */
static __always_inline void source_of_uring(struct source *source, struct task_struct *task, struct sock *sk,
					    __u8 direction, int ret, int flags)
{
	bool discarded = direction == DIRECTION_INGRESS && flags & MSG_TRUNC;

	/* Where nothing is known the message counts as one whose bytes could not be read. */
	source->kind = discarded ? SOURCE_NONE : SOURCE_UNKNOWN;
	if (direction == DIRECTION_EGRESS) {
		struct sending *s = bpf_task_storage_get(&sending, (void *)task, 0, 0);

		if (!s)
			return;
		if (s->sk == (__u64)sk && s->kind != SOURCE_NONE) {
			source->kind = s->kind;
			source->address = s->address;
			source->count = s->count;
			source->skip = s->skip;
		} else {
			source_of_request(source, sk, s->request);
		}
		s->sk = 0;
	} else {
		/* Made at the first attempt to read, before there is anything. */
		struct received *r = bpf_task_storage_get(&received, (void *)task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

		if (!r)
			return;
		if (ret > 0 && r->length == (__u32)ret && !discarded && is_received_by(sk, r->sk))
			source->kind = SOURCE_RECEIVED;
		r->sk = 0;
	}
}
