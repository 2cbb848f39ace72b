/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Connections that are older than the agent. Of each network namespace listening sockets come first. */

SEC("iter/tcp")
int existing_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct listener listener = {};
	struct connection *c;
	struct tuple tuple = {};
	struct sock *sk;
	__u8 state, one = 1;

	if (!common)
		return 0;
	sk = (struct sock *)bpf_skc_to_tcp_sock(common);
	if (!sk)
		return 0;
	state = common->skc_state;
	listener.netns = read_netns(sk);
	listener.port = common->skc_num;
	if (state == STATE_LISTEN) {
		bpf_map_update_elem(&listeners, &listener, &one, BPF_ANY);
		return 0;
	}
	if (state != STATE_ESTABLISHED && state != STATE_CLOSE_WAIT && state != STATE_FIN_WAIT1 &&
	    state != STATE_FIN_WAIT2)
		return 0;
	if (find_connection(sk))
		return 0;
	c = make_connection(sk, ORIGIN_PRE_EXISTING);
	if (!c)
		return 0;
	c->established = 1;
	anchor_here(sk, c);
	if (bpf_map_lookup_elem(&listeners, &listener))
		c->role = ROLE_SERVER;
	read_tuple(sk, &tuple);
	if (!port_wanted(tuple.local_port, tuple.peer_port)) {
		c->ignored = OUTCOME_PORT_FILTERED;
		return 0;
	}
	/* Otherwise it is announced with a message of a process in the agent's pid namespace. */
	if (!pid_namespace && !is_subflow(sk))
		c->announced = announce_tcp(sk, c, DIRECTION_NONE, 0);
	return 0;
}

/* Run once by the agent itself, which has set how many levels its pid namespace is below that of its /proc. */
__u32 caller_below;
/* Its thread group id in the namespace of its /proc, that namespace's inode number and level. */
__u32 caller_tgid;
__u32 caller_pid_namespace;
__u32 caller_pid_level;
/* And where the kernel keeps a program's registers, which is the same place for all. */
__u32 caller_registers;

SEC("syscall")
int who_calls(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	struct upid *number;

	level = caller_below < level ? level - caller_below : 0;
	number = number_at(pid, level);
	caller_tgid = BPF_CORE_READ(number, nr);
	caller_pid_namespace = BPF_CORE_READ(number, ns, ns.inum);
	caller_pid_level = level;
	caller_registers = bpf_task_pt_regs((void *)task) - (long)task->stack;
	return 0;
}
