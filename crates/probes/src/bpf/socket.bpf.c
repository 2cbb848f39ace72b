/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Backend `socket`: the tracepoints that fire once for each send and receive of a socket (kernel 6.3). */

static __always_inline void read_facts(struct sock *sk, struct facts *facts, __u8 direction)
{
	struct tcp_sock *tcp;

	facts->family = sk->__sk_common.skc_family;
	facts->protocol = sk->sk_protocol;
	if (facts->family == AF_UNIX) {
		facts->counted = 1;
		return;
	}
	if (has_multipath() && facts->protocol == IPPROTO_MPTCP)
		read_multipath(sk, facts, direction);
	if (facts->protocol != IPPROTO_TCP)
		return;
	tcp = as_tcp(sk);
	if (!tcp)
		return;
	facts->srtt_us = tcp->srtt_us >> 3;
	facts->retransmits = tcp->total_retrans;
	facts->end = direction == DIRECTION_EGRESS ? tcp->write_seq : tcp->copied_seq;
}

static __always_inline bool has_unread(struct sock *sk, const struct facts *facts)
{
	struct tcp_sock *tcp;

	if (has_multipath() && facts->protocol == IPPROTO_MPTCP)
		return has_unread_multipath(sk);
	if (facts->protocol != IPPROTO_TCP)
		return true;
	tcp = as_tcp(sk);
	return tcp && *(volatile __u32 *)&tcp->rcv_nxt != tcp->copied_seq;
}

/* A call into the kernel costs more than all else that is done with the registers. */
static __always_inline struct pt_regs *saved_registers(struct task_struct *task)
{
	if (can_cast && registers_offset)
		return CAST(task->stack + registers_offset, struct pt_regs);
	return (struct pt_regs *)bpf_task_pt_regs((void *)task);
}

/* Whether the thread is in a call about a socket: what it sends or receives then is that call's. */
static __always_inline bool in_socket_call(struct task_struct *task)
{
	struct pt_regs *regs;

	/* It does not return to user space from any call. */
	if (task->flags & PF_IO_WORKER)
		return false;
	regs = saved_registers(task);
	if (!IN_CALL(regs))
		return false;
	return IS_COMPAT(regs) || classify(CALL_NUMBER(regs)) != CALL_OTHER;
}

/*
 * The user buffer of the call that the current thread is in. Also to be asked for messages that fail or are empty: they
 * count among several of one call.
 */
static __always_inline void source_of_current(struct source *source, struct task_struct *task, struct sock *sk,
					      __u8 direction, int ret, int flags)
{
	struct pt_regs *regs;
	__u64 count, header;
	__u32 call;

	/* Kernel threads have no user memory, and a kernel's own socket is not what the program's call is about. */
	if (task->flags & (PF_KTHREAD | PF_IO_WORKER))
		return;
	if (!sk->sk_socket->file)
		return;
	regs = saved_registers(task);
	/* io_uring works for a thread on its way out of a call that is about something else. */
	if (IS_COMPAT(regs) || !IN_CALL(regs))
		return;
	call = classify(CALL_NUMBER(regs));
	count = (__u32)ARGUMENT_3(regs);
	if (call == (direction == DIRECTION_EGRESS ? CALL_SENDMMSG : CALL_RECVMMSG) && count > 1) {
		/* After urgent data and after its time a call ends without a sign. */
		if (call == CALL_RECVMMSG && (flags & MSG_OOB || ARGUMENT_5(regs)))
			return;
		if (call == CALL_SENDMMSG && count > SEND_MULTIPLE_MAX)
			count = SEND_MULTIPLE_MAX;
		header = current_header(sk, call, ARGUMENT_2(regs), count, ret);
		if (header && ret > 0)
			source_of_header(source, header);
		return;
	}
	if (ret > 0)
		source_of_call(source, call, direction, ARGUMENT_2(regs), ARGUMENT_3(regs));
}

/* Each end is told once: it may be read again. */
static __noinline int end_unix(struct sock *sk, struct connection *c)
{
	union control_event event = {};
	struct sock *peer;
	enum unix_end end = end_of_unix(sk, &peer);
	__u64 other;

	if (end == UNIX_GOES_ON)
		return 0;
	/* It has this number if anything of it was ever told. */
	other = BPF_CORE_READ(peer, __sk_common.skc_cookie.counter);
	/* Who reads may be nobody that is traced. */
	if (!c && other)
		c = make_connection(sk, ORIGIN_PRE_EXISTING);
	if (!c || c->unix_ends >= end)
		return 0;
	c->unix_ends = end;
	if (end == UNIX_SHUT) {
		half_close(c, DIRECTION_INGRESS);
		if (other)
			tell_half_closed(other, DIRECTION_EGRESS);
		return 0;
	}
	if (other) {
		/* How many bytes it read nobody knows: no more than was told. */
		begin(&event.header, EVENT_CLOSED);
		event.closed.connection = other;
		submit_control(&event, sizeof(event.closed));
	}
	close_connection(sk, c);
	return 0;
}

static __always_inline int on_socket_length(__u32 slot, struct sock *sk, int ret, int flags, __u8 direction)
{
	struct facts facts = {};
	struct source source = {};
	struct task_struct *task;
	struct connection *c;
	__u64 time = 0;
	bool by_uring;

	read_facts(sk, &facts, direction);
	if (!is_ours(&facts, sk->sk_type))
		return 0;
	task = (void *)bpf_get_current_task_btf();
	by_uring = uses_uring(task) && !in_socket_call(task);
	if (by_uring)
		source_of_uring(&source, task, sk, direction, ret, flags);
	/* Urgent data is beside the stream. */
	if (direction == DIRECTION_INGRESS && (flags & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB)))
		return 0;
	c = find_connection(sk);
	if (c && direction == DIRECTION_EGRESS)
		time = take_start(c, task->pid, ret, &facts.end);
	if (!by_uring && (direction == DIRECTION_EGRESS || !(flags & MSG_TRUNC)))
		source_of_current(&source, task, sk, direction, ret, flags);
	if (!ret && unix_sockets && facts.family == AF_UNIX && direction == DIRECTION_INGRESS)
		end_unix(sk, c);
	if (ret <= 0)
		return 0;
	if (c && direction == DIRECTION_INGRESS) {
		time = take_arrival(c);
		c->arrival_unknown = has_unread(sk, &facts);
	}
	handle(slot, task, sk, c, &facts, &source, ret, direction, time);
	if (c && c->over)
		end_when_read(sk, c);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(socket_send, struct sock *sk, int ret, int flags)
{
	return on_socket_length(SLOT_SEND, sk, ret, flags, DIRECTION_EGRESS);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(socket_recv, struct sock *sk, int ret, int flags)
{
	return on_socket_length(SLOT_RECV, sk, ret, flags, DIRECTION_INGRESS);
}

/*
 * Reads that no tracepoint tells of: splice(2), TCP_ZEROCOPY_RECEIVE. This one fires for each piece that is read, by
 * whatever call, with the socket locked and `copied_seq` moved on.
 */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(socket_unseen, struct sock *sk)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct pt_regs *regs = saved_registers(task);
	struct source source = {};
	struct facts facts = {};
	struct connection *c;
	__u32 length;
	__u64 time;

	if (!IS_UNSEEN_READ(CALL_NUMBER(regs)) || !IN_CALL(regs) || IS_COMPAT(regs))
		return 0;
	if (task->flags & (PF_KTHREAD | PF_IO_WORKER))
		return 0;
	read_facts(sk, &facts, DIRECTION_INGRESS);
	if (facts.protocol != IPPROTO_TCP)
		return 0;
	c = find_connection(sk);
	if (!c || c->counted || !is_anchored(c, DIRECTION_INGRESS) || is_rewritten(sk))
		return 0;
	if (is_over_fin(sk, facts.end))
		facts.end--;
	length = facts.end - (c->start[DIRECTION_INGRESS] + (__u32)c->position[DIRECTION_INGRESS]);
	if (!length || length > STEP_BACK)
		return 0;
	time = take_arrival(c);
	c->arrival_unknown = has_unread(sk, &facts);
	handle(SLOT_READ_UNSEEN, task, sk, c, &facts, &source, length, DIRECTION_INGRESS, time);
	if (c->over)
		end_when_read(sk, c);
	return 0;
}
