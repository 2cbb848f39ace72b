/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Backend `syscall`: the end of every system call, the socket found from its descriptor (kernel 5.12). */

void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;
#define CAST(pointer, type) ((type *)bpf_rdonly_cast((pointer), bpf_core_type_id_kernel(type)))

#define MULTIPLE_MAX 8
#define MULTIPLE_SUMMED 1024

/* One call on one socket. */
struct exchange_of_call {
	struct sock *sk;
	__u32 call;
	__u8 direction;
};

static __always_inline bool look_up(bool cast, __u32 fd, struct sock **found, struct facts *facts, __u16 *type,
				    bool *unread)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct fdtable *table = task->files->fdt;
	struct file *entry = NULL;
	struct sock *sk;

	if (fd >= table->max_fds)
		return false;
	bpf_probe_read_kernel(&entry, sizeof(entry), &table->fd[fd]);
	if (!entry)
		return false;
	if (cast) {
		struct file *file = CAST(entry, struct file);
		struct tcp_sock *tcp;

		if ((file->f_inode->i_mode & S_IFMT) != S_IFSOCK)
			return false;
		sk = CAST(file->private_data, struct socket)->sk;
		facts->family = sk->__sk_common.skc_family;
		facts->protocol = sk->sk_protocol;
		*type = sk->sk_type;
		if (!is_ours(facts, *type))
			return false;
		if (facts->family != AF_UNIX) {
			tcp = CAST(sk, struct tcp_sock);
			facts->srtt_us = tcp->srtt_us >> 3;
			facts->retransmits = tcp->total_retrans;
		}
	} else {
		struct socket *socket;
		struct tcp_sock *tcp;

		if ((BPF_CORE_READ(entry, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
			return false;
		socket = BPF_CORE_READ(entry, private_data);
		sk = BPF_CORE_READ(socket, sk);
		facts->family = BPF_CORE_READ(sk, __sk_common.skc_family);
		facts->protocol = BPF_CORE_READ(sk, sk_protocol);
		*type = BPF_CORE_READ(sk, sk_type);
		if (!is_ours(facts, *type))
			return false;
		if (facts->family != AF_UNIX) {
			tcp = (void *)sk;
			facts->srtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3;
			facts->retransmits = BPF_CORE_READ(tcp, total_retrans);
		}
	}
	*found = sk;
	return true;
}

static __always_inline bool unread_by_address(struct sock *sk)
{
	struct tcp_sock *tcp = (void *)sk;

	return BPF_CORE_READ(tcp, rcv_nxt) != BPF_CORE_READ(tcp, copied_seq);
}

static __always_inline int on_exit(bool cast, struct pt_regs *regs, long ret)
{
	struct facts facts = {};
	struct source source = {};
	struct connection *c;
	struct sock *sk = NULL;
	__u32 call, fd, flags = 0;
	__u16 type = 0;
	__u64 time = 0, second, third;
	__u8 direction;
	bool unread = false;

	if (ret <= 0)
		return 0;
	call = classify(CALL_NUMBER(regs));
	if (call == CALL_OTHER || IS_COMPAT(regs))
		return 0;
	direction = call == CALL_READ || call == CALL_READV || call == CALL_RECVFROM || call == CALL_RECVMSG ||
				    call == CALL_RECVMMSG ?
			    DIRECTION_INGRESS :
			    DIRECTION_EGRESS;
	fd = ARGUMENT_1(regs);
	second = ARGUMENT_2(regs);
	third = ARGUMENT_3(regs);
	if (call == CALL_RECVFROM || call == CALL_RECVMMSG)
		flags = ARGUMENT_4(regs);
	else if (call == CALL_RECVMSG)
		flags = third;
	if (flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0;
	if (call == CALL_SPLICE) {
		/* From a socket to a pipe, or from a pipe to a socket. */
		if (look_up(cast, fd, &sk, &facts, &type, &unread))
			direction = DIRECTION_INGRESS;
		else if (!look_up(cast, third, &sk, &facts, &type, &unread))
			return 0;
	} else if (!look_up(cast, fd, &sk, &facts, &type, &unread)) {
		return 0;
	}
	c = find_connection(sk);
	if (c && direction == DIRECTION_EGRESS) {
		time = take_start(c, (__u32)bpf_get_current_pid_tgid());
	} else if (c) {
		time = take_arrival(c, &facts);
		c->arrival_unknown = facts.family == AF_UNIX || unread_by_address(sk);
	}
	if (call != CALL_RECVMMSG && call != CALL_SENDMMSG) {
		if (direction == DIRECTION_EGRESS || !(flags & MSG_TRUNC))
			source_of_call(&source, call, direction, second, third);
		handle(SLOT_SYSCALL, sk, c, &facts, &source, ret, direction, time);
		return 0;
	}
	/* Several messages in one call: `ret` counts them, and each has its length beside it. */
	for (__u32 i = 0; i < MULTIPLE_MAX; i++) {
		struct user_mmsghdr one;
		__u64 address = second + i * sizeof(one);

		if (i >= ret || bpf_probe_read_user(&one, sizeof(one), (void *)address))
			return 0;
		if (!one.length)
			continue;
		source.kind = SOURCE_VECTOR;
		source.address = one.header.iov;
		source.count = one.header.iov_count > 1024 ? 1024 : one.header.iov_count;
		if (flags & MSG_TRUNC)
			source.kind = SOURCE_NONE;
		handle(SLOT_SYSCALL, sk, c, &facts, &source, one.length, direction, time);
		time = 0;
		c = find_connection(sk);
	}
	/* More than that as one message of that length, without bytes. */
	if (ret > MULTIPLE_MAX) {
		__u64 sum = 0;

		for (__u32 i = MULTIPLE_MAX; i < MULTIPLE_SUMMED; i++) {
			__u32 length = 0;
			__u64 address = second + i * sizeof(struct user_mmsghdr) + sizeof(struct user_msghdr);

			if (i >= ret || bpf_probe_read_user(&length, sizeof(length), (void *)address))
				break;
			sum += length;
		}
		source.kind = SOURCE_NONE;
		if (sum)
			handle(SLOT_SYSCALL, sk, c, &facts, &source, sum, direction, 0);
	}
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(syscall_exit, struct pt_regs *regs, long ret)
{
	return on_exit(true, regs, ret);
}

/* For kernels before 6.2, which have no bpf_rdonly_cast. */
SEC("tp_btf/sys_exit")
int BPF_PROG(syscall_exit_read, struct pt_regs *regs, long ret)
{
	return on_exit(false, regs, ret);
}
