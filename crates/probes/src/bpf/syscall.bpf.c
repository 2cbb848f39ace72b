/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Backend `syscall`: the end of every system call, the socket found from its descriptor (kernel 5.12). */

#define MULTIPLE_MAX 8
#define MULTIPLE_SUMMED 1024

static __always_inline bool look_up(bool cast, __u32 fd, struct sock **found, struct facts *facts, __u32 direction)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct fdtable *table = task->files->fdt;
	struct file *entry = NULL;
	struct sock *sk;
	__u16 type;

	if (fd >= table->max_fds)
		return false;
	if (cast) {
		/* A pointer in an array has no type of its own: as the first member of what begins with a pointer. */
		struct file *file = CAST(CAST(&table->fd[fd], struct list_head)->next, struct file);
		struct tcp_sock *tcp;

		if (!file)
			return false;
		if ((file->f_inode->i_mode & S_IFMT) != S_IFSOCK)
			return false;
		facts->inode = file->f_inode->i_ino;
		sk = CAST(file->private_data, struct socket)->sk;
		facts->family = sk->__sk_common.skc_family;
		facts->protocol = sk->sk_protocol;
		type = sk->sk_type;
		if (!is_ours(facts, type))
			return false;
		if (facts->family != AF_UNIX && facts->protocol == IPPROTO_TCP) {
			tcp = CAST(sk, struct tcp_sock);
			facts->srtt_us = tcp->srtt_us >> 3;
			facts->retransmits = tcp->total_retrans;
			facts->end = direction == DIRECTION_EGRESS ? tcp->write_seq : tcp->copied_seq;
		}
	} else {
		struct socket *socket;
		struct tcp_sock *tcp;

		bpf_probe_read_kernel(&entry, sizeof(entry), &table->fd[fd]);
		if (!entry)
			return false;
		if ((BPF_CORE_READ(entry, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
			return false;
		socket = BPF_CORE_READ(entry, private_data);
		sk = BPF_CORE_READ(socket, sk);
		facts->family = BPF_CORE_READ(sk, __sk_common.skc_family);
		facts->protocol = BPF_CORE_READ(sk, sk_protocol);
		type = BPF_CORE_READ(sk, sk_type);
		if (!is_ours(facts, type))
			return false;
		facts->inode = BPF_CORE_READ(entry, f_inode, i_ino);
		if (facts->family != AF_UNIX && facts->protocol == IPPROTO_TCP) {
			tcp = (void *)sk;
			facts->srtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3;
			facts->retransmits = BPF_CORE_READ(tcp, total_retrans);
			if (direction == DIRECTION_EGRESS)
				facts->end = BPF_CORE_READ(tcp, write_seq);
			else
				facts->end = BPF_CORE_READ(tcp, copied_seq);
		}
	}
	facts->counted = facts->family == AF_UNIX;
	if (has_multipath() && facts->family != AF_UNIX && facts->protocol == IPPROTO_MPTCP)
		read_multipath(sk, facts, direction);
	*found = sk;
	return true;
}

static __always_inline bool unread_by_address(struct sock *sk, const struct facts *facts)
{
	struct tcp_sock *tcp = (void *)sk;

	if (has_multipath() && facts->protocol == IPPROTO_MPTCP)
		return has_unread_multipath(sk);
	if (can_cast) {
		tcp = CAST(sk, struct tcp_sock);
		return *(volatile __u32 *)&tcp->rcv_nxt != tcp->copied_seq;
	}
	return BPF_CORE_READ(tcp, rcv_nxt) != BPF_CORE_READ(tcp, copied_seq);
}

/* One message of a call, with all that the handler wants to know. */
struct call_message {
	__u64 sk;
	__u64 end; /* of the whole call, while `facts` has that of the message */
	__u32 length;
	__u32 direction;
	__u64 behind; /* bytes of the same call behind this message */
	struct facts facts;
	struct source source;
};

/* A function of its own, verified once: the loop over several messages of a call then costs the verifier little. */
__noinline int handle_call(struct call_message *message)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct connection *c;
	struct sock *sk;
	__u64 time = 0;
	__u32 end;
	__u8 direction;

	if (!message)
		return 0;
	end = message->facts.end;
	message->end = end;
	sk = (struct sock *)message->sk;
	direction = message->direction ? DIRECTION_EGRESS : DIRECTION_INGRESS;
	c = find_connection(sk);
	if (c && c->inode && c->inode != message->facts.inode) {
		/* Another socket at the address of one whose end nobody saw, as nobody sees that of a Unix stream. */
		close_connection(sk, c);
		c = NULL;
	}
	if (c && direction == DIRECTION_EGRESS) {
		time = take_start(c, task->pid, message->length, &end);
	} else if (c) {
		time = take_arrival(c);
		c->arrival_unknown = message->facts.family == AF_UNIX || unread_by_address(sk, &message->facts);
	}
	message->facts.end = message->behind ? message->end - message->behind : end;
	handle(SLOT_SYSCALL, task, sk, c, &message->facts, &message->source, message->length, direction, time);
	if (c && c->over && !message->behind)
		end_when_read(sk, c);
	message->facts.end = message->end;
	return 0;
}

static __always_inline void end_direction(struct sock *sk, __u8 direction, bool closed)
{
	struct connection *c = find_connection(sk);

	if (!c)
		return;
	if (closed) {
		close_connection(sk, c);
	} else if (!(c->unix_ends & 1 << direction)) {
		/* Once: the end may be read again. */
		c->unix_ends |= 1 << direction;
		half_close(c, direction);
	}
}

/* A read has met the end of a stream. Who reads it may be nobody that is traced. */
static __noinline int handle_end(struct call_message *message)
{
	struct sock *sk, *peer;
	enum unix_end end;

	if (!message || message->facts.family != AF_UNIX)
		return 0;
	sk = (struct sock *)message->sk;
	end = end_of_unix(sk, &peer);
	if (end == UNIX_GOES_ON)
		return 0;
	end_direction(peer, DIRECTION_EGRESS, end == UNIX_CLOSED);
	end_direction(sk, DIRECTION_INGRESS, end == UNIX_CLOSED);
	return 0;
}

static __always_inline bool is_receive(__u32 call)
{
	return call == CALL_READ || call == CALL_READV || call == CALL_RECVFROM || call == CALL_RECVMSG ||
	       call == CALL_RECVMMSG;
}

/*
 * Finds the socket of a descriptor. Not static, and one for each way to read, so that the verifier walks it once and what
 * follows does not depend on how the socket was found.
 */
__noinline int look_up_cast(struct call_message *message, __u32 fd)
{
	struct sock *sk = NULL;

	if (!message || !look_up(true, fd, &sk, &message->facts, message->direction))
		return 0;
	message->sk = (__u64)sk;
	return 1;
}

__noinline int look_up_read(struct call_message *message, __u32 fd)
{
	struct sock *sk = NULL;

	if (!message || !look_up(false, fd, &sk, &message->facts, message->direction))
		return 0;
	message->sk = (__u64)sk;
	return 1;
}

/* The bytes of all messages of a call. Not static either: the loop is walked once. */
__noinline __u64 sum_lengths(__u64 vector, __u32 count)
{
	__u64 sum = 0;

	for (__u32 i = 0; i < MULTIPLE_SUMMED; i++) {
		__u64 address = vector + i * sizeof(struct user_mmsghdr) + sizeof(struct user_msghdr);
		__u32 length = 0;

		if (i >= count || bpf_probe_read_user(&length, sizeof(length), (void *)address))
			break;
		sum += length;
	}
	return sum;
}

/* Several messages in one call: `count` of them, each with its length beside it. */
static __always_inline void handle_several(struct call_message *message, __u64 vector, long count, bool discarded)
{
	/* The numbers are those behind the last message. */
	message->behind = sum_lengths(vector, count);
	for (__u32 i = 0; i < MULTIPLE_MAX; i++) {
		__u64 header = vector + i * sizeof(struct user_mmsghdr);
		void *length = (void *)(header + sizeof(struct user_msghdr));

		if (i >= count || bpf_probe_read_user(&message->length, sizeof(message->length), length))
			return;
		if (!message->length)
			continue;
		message->behind -= message->length;
		message->source.kind = SOURCE_NONE;
		if (!discarded)
			source_of_header(&message->source, header);
		handle_call(message);
	}
	/* More than that as one message of their length, without bytes. */
	message->source.kind = SOURCE_NONE;
	message->length = message->behind;
	message->behind = 0;
	if (message->length)
		handle_call(message);
}

/* Its own end only, on which its program can have done nothing yet. */
__noinline int begin_unix(struct call_message *message, __u32 role)
{
	struct birth birth = { .role = role };
	struct connection *c;
	struct sock *sk;
	__u64 key;

	if (!message || message->facts.family != AF_UNIX)
		return 0;
	sk = (struct sock *)message->sk;
	key = message->sk;
	c = find_connection(sk);
	if (c && c->inode == message->facts.inode)
		return 0;
	birth.peer = (__u64)BPF_CORE_READ((struct unix_sock *)sk, peer);
	if (birth.peer)
		bpf_map_update_elem(&births, &key, &birth, BPF_ANY);
	return 0;
}

static __always_inline int on_opening(bool cast, struct pt_regs *regs, long ret, struct call_message *message)
{
	enum opening opening = classify_opening(CALL_NUMBER(regs));
	__u32 fds[2] = {}, role = ROLE_UNKNOWN;

	/* Before that, io_uring may have sent unseen. */
	if (opening == OPENING_NONE || !attached_at || IS_COMPAT(regs))
		return 0;
	if (opening == OPENING_ACCEPT) {
		fds[0] = ret;
		role = ROLE_SERVER;
	} else if (ret) {
		return 0;
	} else if (opening == OPENING_CONNECT) {
		fds[0] = ARGUMENT_1(regs);
		role = ROLE_CLIENT;
	} else if (bpf_probe_read_user(fds, sizeof(fds), (void *)ARGUMENT_4(regs))) {
		return 0;
	}
	if (cast ? look_up_cast(message, fds[0]) : look_up_read(message, fds[0]))
		begin_unix(message, role);
	if (opening == OPENING_PAIR && (cast ? look_up_cast(message, fds[1]) : look_up_read(message, fds[1])))
		begin_unix(message, role);
	return 0;
}

static __always_inline int on_exit(bool cast, struct pt_regs *regs, long ret)
{
	struct call_message message = {};
	__u32 call, fd, flags = 0;
	__u64 second, third;

	if (ret < 0 || (!ret && !unix_sockets))
		return 0;
	call = classify(CALL_NUMBER(regs));
	if (unix_sockets && call == CALL_OTHER)
		return on_opening(cast, regs, ret, &message);
	if (call == CALL_OTHER || IS_COMPAT(regs) || (!ret && !is_receive(call)))
		return 0;
	message.direction = is_receive(call) ? DIRECTION_INGRESS : DIRECTION_EGRESS;
	fd = ARGUMENT_1(regs);
	second = ARGUMENT_2(regs);
	third = ARGUMENT_3(regs);
	if (call == CALL_RECVFROM || call == CALL_RECVMMSG)
		flags = ARGUMENT_4(regs);
	else if (call == CALL_RECVMSG)
		flags = third;
	/* Urgent data is beside the stream. */
	if (flags & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB))
		return 0;
	/* From a socket to a pipe, or from a pipe to a socket. */
	if (call == CALL_SPLICE)
		message.direction = DIRECTION_INGRESS;
	if (!(cast ? look_up_cast(&message, fd) : look_up_read(&message, fd))) {
		if (call != CALL_SPLICE)
			return 0;
		message.direction = DIRECTION_EGRESS;
		if (!(cast ? look_up_cast(&message, third) : look_up_read(&message, third)))
			return 0;
	}
	if (!ret)
		return handle_end(&message);
	if (call == CALL_RECVMMSG || call == CALL_SENDMMSG) {
		handle_several(&message, second, ret, flags & MSG_TRUNC);
		return 0;
	}
	if (message.direction == DIRECTION_EGRESS || !(flags & MSG_TRUNC))
		source_of_call(&message.source, call, message.direction, second, third);
	message.length = ret;
	handle_call(&message);
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
