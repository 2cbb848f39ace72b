/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The agent's own connections, known at their other ends by the numbers with which both directions begin: both ends have
 * the same pair, in whichever network namespace they are and whatever addresses are translated between them.
 */
#pragma once

/* The lower one first: so it does not matter who connected. */
struct own_key {
	__u32 lower;
	__u32 higher;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct own_key);
	__type(value, __u8);
} self_peers SEC(".maps");

/* Own connections that are older than the capture: while there are none, nobody looks for their other ends. */
__u32 own_older;
/* Messages of an older connection at which that is done: the agent's own message comes first or soon after. */
#define OWN_ASKED_MAX 16

static __always_inline struct own_key own_key(__u32 one, __u32 other)
{
	struct own_key key = { .lower = one < other ? one : other, .higher = one < other ? other : one };

	return key;
}

static __always_inline void add_own(__u32 one, __u32 other)
{
	struct own_key key = own_key(one, other);
	__u8 yes = 1;

	bpf_map_update_elem(&self_peers, &key, &yes, BPF_ANY);
}

static __always_inline bool take_own(__u32 one, __u32 other)
{
	struct own_key key = own_key(one, other);

	return !bpf_map_delete_elem(&self_peers, &key);
}

/* While the handshake ends. */
static __always_inline struct own_key handshake_of(struct sock *sk)
{
	struct tcp_sock *tcp = (void *)sk;

	return own_key(BPF_CORE_READ(tcp, write_seq), BPF_CORE_READ(tcp, rcv_nxt));
}

/*
 * Of an established connection: the first number of what it receives, and that of what it sends or, on the side that
 * connected, one less, because the SYN counts as acknowledged there.
 */
static __always_inline void bases_of(struct sock *sk, __u32 *sent, __u32 *received)
{
	struct tcp_sock *tcp = (void *)sk;

	*sent = BPF_CORE_READ(tcp, snd_una) - (__u32)BPF_CORE_READ(tcp, bytes_acked);
	*received = BPF_CORE_READ(tcp, rcv_nxt) - (__u32)BPF_CORE_READ(tcp, bytes_received);
}

/* A message of the agent on a connection that it opened before it captured. */
static __noinline int remember_own(struct sock *sk)
{
	__u32 sent, received;

	bases_of(sk, &sent, &received);
	add_own(sent, received);
	add_own(sent + 1, received);
	own_older = 1;
	return 0;
}

static __noinline bool is_own_older(struct sock *sk)
{
	__u32 sent, received;

	bases_of(sk, &sent, &received);
	return take_own(sent, received) || take_own(sent + 1, received);
}

/* An accepted Unix stream knows which process connected. */
static __always_inline bool is_unix_peer_self(struct sock *sk)
{
	struct pid *pid = BPF_CORE_READ(sk, sk_peer_pid);
	struct upid *number;

	if (!pid || BPF_CORE_READ(pid, level) < pid_level)
		return false;
	number = number_at(pid, pid_level);
	if (pid_namespace && BPF_CORE_READ(number, ns, ns.inum) != pid_namespace)
		return false;
	return BPF_CORE_READ(number, nr) == self_tgid;
}
