/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* io_uring: the packets whose bytes it receives, and its messages where only ends of system calls are seen. */

int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *dynptr) __ksym __weak;

/* What is kept of the message that the thread reads, with this packet's bytes added to its length; NULL: not wanted. */
static __always_inline struct received *next_piece(struct task_struct *task, struct sock *sk, int length)
{
	struct received *r;

	r = bpf_task_storage_get(&received, (void *)task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!r)
		return NULL;
	if (r->sk != (__u64)sk) {
		r->sk = (__u64)sk;
		r->length = 0;
		r->copied = 0;
	}
	r->length += length;
	r->tail = 0;
	return r;
}

/* A SYN with data counts as a byte of its own. */
static __always_inline __u32 place_of(__u32 copied, __u32 first, __u8 flags)
{
	return copied - first - (flags & TCP_FLAG_SYN ? 1 : 0);
}

/*
 * For each packet of which bytes are copied to a reader. `copied_seq` moves afterwards. With MSG_PEEK it is not the place
 * that is read: what is kept then is thrown away at the message's end. A packet of TCP is the reader's, one of a Unix
 * stream belongs to who sent it.
 */
SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(uring_copy, struct sk_buff *skb, int length)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct bpf_dynptr bytes;
	struct tcp_skb_cb *control;
	struct received *r;
	struct sock *sk;
	__u32 offset, at, n;

	if (!uses_uring(task) || in_socket_call(task) || length <= 0)
		return 0;
	sk = skb->sk;
	if (!sk)
		return 0;
	if (sk->sk_protocol == IPPROTO_TCP) {
		control = (struct tcp_skb_cb *)skb->cb;
		offset = place_of(CAST(sk, struct tcp_sock)->copied_seq, control->seq, control->tcp_flags);
	} else if (unix_sockets && sk->__sk_common.skc_family == AF_UNIX) {
		offset = ((struct unix_skb_parms *)skb->cb)->consumed;
	} else {
		return 0;
	}
	r = next_piece(task, sk, length);
	if (!r || bpf_dynptr_from_skb((void *)skb, 0, &bytes))
		return 0;
	at = r->length - length;
	n = length;
	if (!at) {
		BOUND(n, RECEIVED_MAX);
		if (n && !bpf_dynptr_read(r->data, n, &bytes, offset, 0))
			r->copied = n;
	} else if (r->copied == at && at < RECEIVED_MAX) {
		BOUND(n, PIECE_MAX);
		BOUND(at, RECEIVED_MAX);
		if (n && !bpf_dynptr_read(&r->data[at], n, &bytes, offset, 0))
			r->copied = at + n;
	}
	n = length;
	BOUND(n, TAIL_MAX);
	if (n && !bpf_dynptr_read(r->last, n, &bytes, offset + length - n, 0))
		r->tail = n;
	return 0;
}

/* The same for kernels whose tracing programs have no dynptr of a packet (before 6.12). */
SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(uring_copy_read, struct sk_buff *skb, int length)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct tcp_skb_cb *control = (void *)skb + bpf_core_field_offset(struct sk_buff, cb);
	struct unix_skb_parms *of_unix = (void *)control;
	struct received *r;
	struct sock *sk;
	__u32 offset, at, n;

	if (!uses_uring(task) || in_socket_call(task) || length <= 0)
		return 0;
	sk = BPF_CORE_READ(skb, sk);
	if (!sk)
		return 0;
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
		offset = place_of(BPF_CORE_READ((struct tcp_sock *)sk, copied_seq), BPF_CORE_READ(control, seq),
				  BPF_CORE_READ(control, tcp_flags));
	else if (unix_sockets && BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX)
		offset = BPF_CORE_READ(of_unix, consumed);
	else
		return 0;
	r = next_piece(task, sk, length);
	if (!r || !open_packet(&r->walk, skb))
		return 0;
	at = r->length - length;
	if (r->copied == at && at < RECEIVED_MAX) {
		n = (__u32)length < RECEIVED_MAX - at ? (__u32)length : RECEIVED_MAX - at;
		if (copy_packet(r, offset, n, TAIL_MAX + at))
			r->copied = at + n;
	}
	n = length < TAIL_MAX ? length : TAIL_MAX;
	if (copy_packet(r, offset + length - n, n, 0))
		r->tail = n;
	return 0;
}

/*
 * The thread's last request. It is what a send of the same thread is about where the kernel does not show the message's
 * iterator (before 6.16), or that leads to registered buffers.
 */
static __always_inline int on_submit(struct io_kiocb *request)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	bool sends = is_sending(request->opcode);
	struct sending *s;

	s = bpf_task_storage_get(&sending, (void *)task, 0, sends ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (s)
		s->request = sends ? (__u64)request : 0;
	return 0;
}

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(uring_submit, struct io_kiocb *request)
{
	return on_submit(request);
}

/* Its name before kernel 6.3. */
SEC("tp_btf/io_uring_submit_sqe")
int BPF_PROG(uring_submit_sqe, struct io_kiocb *request)
{
	return on_submit(request);
}

/* Backend `syscall` sees what calls about a socket send and receive. */
static __always_inline int on_uring_length(__u32 slot, struct sock *sk, int ret, int flags, __u8 direction)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	if (!uses_uring(task) || in_socket_call(task))
		return 0;
	return on_socket_length(slot, sk, ret, flags, direction);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(uring_send, struct sock *sk, int ret, int flags)
{
	return on_uring_length(SLOT_URING_SEND, sk, ret, flags, DIRECTION_EGRESS);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(uring_recv, struct sock *sk, int ret, int flags)
{
	return on_uring_length(SLOT_URING_RECV, sk, ret, flags, DIRECTION_INGRESS);
}
