/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The life of connections: opened, half closed, closed; when sends start and when data arrives. */

/* A socket that connects again, once connect() to AF_UNSPEC or a reset has ended what it was, is another connection. */
static __always_inline void make_another(struct sock *sk, struct connection *c)
{
	__u64 id = c->id + NEXT_OF_SOCKET;

	tell_closed(c);
	__builtin_memcpy(c, &no_connection, sizeof(*c));
	c->id = id;
	c->sk = (__u64)sk;
	c->origin = ORIGIN_OBSERVED;
}

static __always_inline void on_connecting(struct sock *sk)
{
	struct connection *c = make_connection(sk, ORIGIN_OBSERVED);
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	__u32 tgid = tgid_of(task);

	if (!c)
		return;
	if (c->established || c->announced || c->anchored || c->reset)
		make_another(sk, c);
	c->role = ROLE_CLIENT;
	c->connect_started = bpf_ktime_get_ns();
	c->connect_tgid = tgid;
	c->connect_process_started = task->group_leader->start_boottime;
	/* Remembered here, used when the answer comes. */
	if (tgid == self_tgid)
		c->ignored = OUTCOME_SELF;
}

static __always_inline void on_established(struct sock *sk, int before)
{
	struct connection *c;
	struct tuple tuple = {};
	struct process_rule *rule;
	struct own_key own;

	/* Of MPTCP only the subflow tells that it connects. */
	if (before == STATE_SYN_SENT && sk->sk_protocol == IPPROTO_TCP)
		c = find_connection(sk);
	else
		c = make_connection(sk, ORIGIN_OBSERVED);
	if (!c)
		return;
	c->established = 1;
	anchor_at_first_byte(sk, c, before == STATE_SYN_SENT);
	own = handshake_of(sk);
	if (before == STATE_SYN_SENT) {
		c->role = ROLE_CLIENT;
		/* The other end is established after this one. */
		if (c->ignored == OUTCOME_SELF) {
			add_own(own.lower, own.higher);
			return;
		}
	} else {
		c->role = ROLE_SERVER;
		if (take_own(own.lower, own.higher)) {
			c->ignored = OUTCOME_SELF;
			return;
		}
	}
	read_tuple(sk, &tuple);
	/* The accepting socket of MPTCP gets its addresses later. A subflow may prove to be a connection of TCP. */
	if (!tuple.peer_port) {
		c->ports_unknown = 1;
		return;
	}
	if (!port_wanted(tuple.local_port, tuple.peer_port)) {
		c->ignored = OUTCOME_PORT_FILTERED;
		return;
	}
	/* Whose a new connection is shows with its first message, which announces it, too. */
	if (pid_namespace || c->announced || (sk->sk_protocol == IPPROTO_TCP && is_subflow(sk)))
		return;
	/* A denied process' connection is announced only if another process uses it. */
	rule = bpf_map_lookup_elem(&processes, &c->connect_tgid);
	if (c->connect_tgid && rule && rule->verdict == VERDICT_DENY)
		return;
	c->announced = announce_tcp(sk, c, DIRECTION_NONE, 0);
}

/* Also where the FIN's number, or those of a socket that is closed without waiting, are about to take their places. */
static __always_inline void count_passed(struct sock *sk, struct connection *c)
{
	c->passed[DIRECTION_INGRESS] = bytes_passed(sk, c, DIRECTION_INGRESS);
	c->passed[DIRECTION_EGRESS] = bytes_passed(sk, c, DIRECTION_EGRESS);
}

/* This end sends its FIN. After a close(), and not only a shutdown() of one direction, its program reads no more. */
static __always_inline void on_fin_sent(struct sock *sk, struct connection *c, int before, int after)
{
	count_passed(sk, c);
	c->fin_sent = 1;
	if (before != after)
		half_close(c, DIRECTION_EGRESS);
	if (sk->sk_protocol == IPPROTO_TCP && sk->sk_shutdown == SHUTDOWN_MASK)
		end_when_read(sk, c);
}

#define has_flag(sk, flag) ((sk)->__sk_common.skc_flags >> bpf_core_enum_value(enum sock_flags, flag) & 1)

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int before, int after)
{
	struct connection *c;

	bool multipath = sk->sk_protocol == IPPROTO_MPTCP;

	if (sk->sk_protocol != IPPROTO_TCP && !(has_multipath() && multipath))
		return 0;
	if (after == STATE_SYN_SENT) {
		on_connecting(sk);
		return 0;
	}
	if (after == STATE_ESTABLISHED) {
		on_established(sk, before);
		return 0;
	}
	c = find_connection(sk);
	if (!c)
		return 0;
	/* A close() after a shutdown() sets the state that it is in once more. */
	if ((after == STATE_CLOSE_WAIT || after == STATE_CLOSING) && before != after)
		half_close(c, DIRECTION_INGRESS);
	else if (after == STATE_FIN_WAIT1 || after == STATE_LAST_ACK)
		on_fin_sent(sk, c, before, after);
	else if (after == STATE_CLOSE) {
		/*
		 * Who has shut its own side first gets the other's FIN in FIN_WAIT2, and goes to TIME_WAIT without the socket.
		 * Of a dead socket nobody reads any more.
		 */
		if (before == STATE_FIN_WAIT2 && !sk->sk_err && has_flag(sk, SOCK_DONE) && !has_flag(sk, SOCK_DEAD))
			half_close(c, DIRECTION_INGRESS);
		/* Not by FINs of both sides: from a state that has still to see one, or with an error. */
		c->reset = before == STATE_ESTABLISHED || before == STATE_CLOSE_WAIT || before == STATE_FIN_WAIT1 ||
			   sk->sk_err;
		count_passed(sk, c);
		if (!close_at_destroy || (!c->announced && !c->ended) || multipath)
			close_connection(sk, c);
		else
			end_when_read(sk, c);
	}
	return 0;
}

/*
 * The end of a socket: unlike TCP_CLOSE, which a reset brings while received bytes may still be read, nothing comes
 * after it.
 */
static __always_inline int on_destroy(struct sock *sk)
{
	struct connection *c = find_connection(sk);

	if (c)
		close_connection(sk, c);
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroy, struct sock *sk)
{
	return on_destroy(sk);
}

/* The kernel skips a program's run in an interrupt of another one. Never that of both: the first to come tells the close. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroy_twin, struct sock *sk)
{
	return on_destroy(sk);
}

/*
 * Fires for each segment of a send, with the socket locked: the first one since the last send's end counts. `number` is
 * that of the segment's first byte, `left` what the send has still to send, 0 where that is not known.
 */
static __always_inline void on_send_start(struct sock *sk, struct msghdr *message, __u32 number, __u32 left)
{
	struct connection *c = find_connection(sk);
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct send *send;

	if (uses_uring(task) && !in_socket_call(task))
		begin_sending(task, sk, message);
	if (!c || c->ignored)
		return;
	send = &c->sends[0];
	if (send->started && send->tid != task->pid)
		send = &c->sends[1];
	if (send->started && send->tid == task->pid) {
		/* Another send than the first: of several that are one call, or the first one's end was not seen. */
		if (number - send->number != send->left - left) {
			send->number = number;
			send->left = left;
		}
		return;
	}
	send->tid = task->pid;
	send->first = number;
	send->number = number;
	send->left = left;
	send->started = bpf_ktime_get_ns();
}

SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(send_start, struct sock *sk, struct msghdr *message)
{
	struct tcp_sock *tcp = as_tcp(sk);

	if (tcp)
		on_send_start(sk, message, tcp->write_seq, message->msg_iter.count);
	return 0;
}

/*
 * TCP reads the clock (CLOCK_MONOTONIC) for each segment that comes, just before it tells of new data; another reading
 * is dear.
 */
static __always_inline __u64 arrival_time(struct sock *sk)
{
	struct tcp_sock *tcp = sk->sk_protocol == IPPROTO_TCP ? as_tcp(sk) : NULL;
	__u64 time = tcp ? tcp->tcp_clock_cache : 0;

	return time ? time : bpf_ktime_get_ns();
}

/* The socket of a descriptor of the current thread, which is in a call about it. */
static __noinline struct sock *socket_of(__u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct fdtable *table = task->files->fdt;
	struct socket *socket;
	struct file *file = NULL;

	if (fd >= table->max_fds)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &table->fd[fd]);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/*
 * A Unix stream's listener is told of a connection by who has just connected, and is still in that call. The other end may
 * have been accepted meanwhile. Of pairs the kernel tells nothing.
 */
static __noinline int on_unix_connected(struct sock *listener)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct birth client = { .role = ROLE_CLIENT }, server = { .role = ROLE_SERVER };
	struct unix_sock *connected, *other;
	struct pt_regs *regs;

	/* Before that, messages may pass that no program sees. */
	if (!attached_at || task->flags & (PF_KTHREAD | PF_IO_WORKER))
		return 0;
	regs = saved_registers(task);
	if (IS_COMPAT(regs) || !IN_CALL(regs) || classify_opening(CALL_NUMBER(regs)) != OPENING_CONNECT)
		return 0;
	connected = (void *)socket_of(ARGUMENT_1(regs));
	if (!connected || BPF_CORE_READ((struct sock *)connected, __sk_common.skc_family) != AF_UNIX)
		return 0;
	other = (void *)BPF_CORE_READ(connected, peer);
	/* Who is accepted has its listener's name. */
	if (!other || BPF_CORE_READ(other, addr) != BPF_CORE_READ((struct unix_sock *)listener, addr))
		return 0;
	client.peer = (__u64)other;
	server.peer = (__u64)connected;
	/* What was sent to the sockets that were here before. */
	bpf_map_delete_elem(&unix_sent, &client.peer);
	bpf_map_delete_elem(&unix_sent, &server.peer);
	bpf_map_update_elem(&births, &server.peer, &client, BPF_ANY);
	bpf_map_update_elem(&births, &client.peer, &server, BPF_ANY);
	return 0;
}

static __always_inline void on_data_ready(struct sock *sk)
{
	struct connection *c;

	/* Backend `syscall` sees the end of calls that begin a stream. */
	if (unix_sockets && use_storage && sk->__sk_common.skc_family == AF_UNIX) {
		if (sk->__sk_common.skc_state == STATE_LISTEN && sk->sk_type == SOCK_STREAM)
			on_unix_connected(sk);
		return;
	}
	if (sk->sk_protocol != IPPROTO_TCP && sk->sk_protocol != IPPROTO_MPTCP)
		return;
	c = find_connection(sk);
	if (!c || c->arrived || c->ignored)
		return;
	/* With a low-water mark the first bytes came without a sign. */
	if (sk->sk_rcvlowat > 1)
		c->arrival_unknown = 1;
	c->arrived = arrival_time(sk);
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(data_ready, struct sock *sk)
{
	on_data_ready(sk);
	return 0;
}
