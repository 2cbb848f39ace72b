/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Connection state: found, made, announced, closed. `sk` is trusted with socket storage and only an address without. */
#pragma once

/* What a backend knows about the socket. */
struct facts {
	__u16 family;
	__u16 protocol;
	__u32 srtt_us;
	__u32 retransmits;
	__u32 end; /* the kernel's number behind the message */
	__u32 counted; /* there is none */
	__u64 inode; /* of the socket; 0: not asked for */
};

void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;
#define CAST(pointer, type) ((type *)bpf_rdonly_cast((pointer), bpf_core_type_id_kernel(type)))

/* Of a socket that is IPPROTO_TCP. Kernels from 6.2 do it without a call. */
static __always_inline struct tcp_sock *as_tcp(struct sock *sk)
{
	return can_cast ? CAST(sk, struct tcp_sock) : bpf_skc_to_tcp_sock(sk);
}

/* Kernels with MPTCP, and those that count what programs have read of it. */
static __always_inline bool has_multipath(void)
{
	return bpf_core_type_exists(struct mptcp_sock);
}

static __always_inline bool counts_consumed(void)
{
	return bpf_core_field_exists(((struct mptcp_sock *)0)->bytes_consumed);
}

/* The socket that a program has; its subflows are sockets of TCP. */
static __always_inline bool is_multipath(struct sock *sk)
{
	return has_multipath() && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP;
}

/* A subflow, which carries no messages; one whose peer knows only TCP ceases to be one with its first message. */
static __always_inline bool is_subflow(struct sock *sk)
{
	struct tcp_sock *tcp = (void *)sk;

	return bpf_core_field_exists(tcp->is_mptcp) && BPF_CORE_READ(tcp, is_mptcp);
}

static __always_inline struct connection *find_connection(struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (use_storage)
		return bpf_sk_storage_get(&sockets, sk, 0, 0);
	return bpf_map_lookup_elem(&connections, &key);
}

static __always_inline void forget_connection(struct sock *sk)
{
	__u64 key = (__u64)sk;

	/* Socket storage goes with the socket. */
	if (!use_storage && !bpf_map_delete_elem(&connections, &key))
		COUNT(connections_ended);
}

static __always_inline __u8 port_rule(__u32 port)
{
	__u8 *rule = bpf_map_lookup_elem(&ports, &port);

	return rule ? *rule : 0;
}

static __always_inline bool port_wanted(__u16 local, __u16 peer)
{
	__u8 rules;

	if (!any_ports)
		return true;
	rules = port_rule(local) | port_rule(peer);
	return !(rules & PORT_EXCLUDE) && (!only_included_ports || rules & PORT_INCLUDE);
}

/* Not on the stack: before kernel 6.13 all functions of a program share 512 bytes of it. */
static const struct connection no_connection;

static __always_inline struct connection *make_connection(struct sock *sk, __u8 origin)
{
	struct connection *c;
	__u64 key = (__u64)sk;

	if (use_storage) {
		c = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!c)
			return NULL;
		if (!c->id)
			c->id = bpf_get_socket_cookie(sk);
	} else {
		__u32 zero = 0;
		__u64 *last = bpf_map_lookup_elem(&last_id, &zero);

		if (!last)
			return NULL;
		if (!bpf_map_update_elem(&connections, &key, &no_connection, BPF_NOEXIST))
			COUNT(connections_made);
		c = bpf_map_lookup_elem(&connections, &key);
		if (!c)
			return NULL;
		if (!c->id)
			__sync_val_compare_and_swap(&c->id, 0, __sync_fetch_and_add(last, 1) + 1);
	}
	c->sk = (__u64)sk;
	c->origin = origin;
	/* What was unread before nobody knows. */
	c->arrival_unknown = origin == ORIGIN_PRE_EXISTING;
	return c;
}

static __always_inline bool is_mapped(const __u8 *address)
{
	const __u64 *high = (const __u64 *)address;
	const __u32 *third = (const __u32 *)(address + 8);

	return *high == 0 && *third == 0xffff0000;
}

/* Both ends; IPv4-mapped addresses as IPv4. Returns the family. */
static __always_inline __u8 read_tuple(struct sock *sk, struct tuple *tuple)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	tuple->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	tuple->peer_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (family == AF_INET6) {
		__u64 local[2], peer[2];

		BPF_CORE_READ_INTO(&local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&peer, sk, __sk_common.skc_v6_daddr);
		if (!is_mapped((__u8 *)peer)) {
			__builtin_memcpy(tuple->local_address, local, 16);
			__builtin_memcpy(tuple->peer_address, peer, 16);
			return AF_INET6;
		}
	}
	*(__u32 *)tuple->local_address = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	*(__u32 *)tuple->peer_address = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	return AF_INET;
}

static __always_inline __u32 read_netns(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

/* No message is being told with the announcement. */
#define DIRECTION_NONE 2

/* Of the message that is told with it, which has been counted already, `position` is the first byte. */
static __always_inline void tell_passed(__u64 *passed, struct connection *c, __u32 direction, __u64 position)
{
	passed[DIRECTION_INGRESS] = direction == DIRECTION_INGRESS ? position : c->position[DIRECTION_INGRESS];
	passed[DIRECTION_EGRESS] = direction == DIRECTION_EGRESS ? position : c->position[DIRECTION_EGRESS];
}

static __noinline bool announce_tcp(struct sock *sk, struct connection *c, __u32 direction, __u64 position)
{
	struct event_opened *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	struct tuple tuple = {};

	/* Nothing is lost: the connection is announced with its next message. */
	if (!event)
		return false;
	__builtin_memset(event, 0, sizeof(*event));
	begin(&event->header, EVENT_OPENED);
	event->connection = c->id;
	event->connect_started = c->connect_started;
	event->process_started = c->connect_process_started;
	event->tgid = c->connect_tgid;
	tell_passed(event->passed, c, direction, position);
	event->netns = read_netns(sk);
	event->family = read_tuple(sk, &tuple);
	__builtin_memcpy(event->local_address, tuple.local_address, 16);
	__builtin_memcpy(event->peer_address, tuple.peer_address, 16);
	event->local_port = tuple.local_port;
	event->peer_port = tuple.peer_port;
	event->role = c->role;
	event->origin = c->origin;
	bpf_ringbuf_submit(event, wake_flag_in_ring(sizeof(*event)));
	return true;
}

static __always_inline __u8 read_unix_path(struct unix_address *address, __u8 *path)
{
	int length;

	if (!address)
		return 0;
	length = BPF_CORE_READ(address, len) - 2;
	if (length <= 0)
		return 0;
	if (length > UNIX_PATH_MAX)
		length = UNIX_PATH_MAX;
	length &= 127;
	if (length > UNIX_PATH_MAX)
		return 0;
	if (bpf_probe_read_kernel(path, length, (void *)address + bpf_core_field_offset(struct unix_address, name) + 2))
		return 0;
	return length;
}

static __noinline bool announce_unix(struct sock *sk, struct connection *c, __u32 direction, __u64 position)
{
	struct event_opened_unix *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	struct unix_sock *self = (void *)sk;
	struct unix_sock *peer = (void *)BPF_CORE_READ(self, peer);

	if (!event)
		return false;
	__builtin_memset(event, 0, sizeof(*event));
	begin(&event->header, EVENT_OPENED_UNIX);
	event->connection = c->id;
	tell_passed(event->passed, c, direction, position);
	event->netns = read_netns(sk);
	event->local_length = read_unix_path(BPF_CORE_READ(self, addr), event->local_path);
	if (peer)
		event->peer_length = read_unix_path(BPF_CORE_READ(peer, addr), event->peer_path);
	event->role = c->role;
	/* An accepted socket has its listener's name, and who connects seldom binds: otherwise only its beginning tells. */
	if (event->local_length && peer && !event->peer_length)
		event->role = ROLE_SERVER;
	if (!event->local_length && event->peer_length)
		event->role = ROLE_CLIENT;
	event->origin = c->origin;
	bpf_ringbuf_submit(event, wake_flag_in_ring(sizeof(*event)));
	return true;
}

/* What is read after a reset comes after the state was closed. */
static __always_inline __u64 bytes_in_all(struct connection *c, __u8 direction)
{
	return c->position[direction] > c->passed[direction] ? c->position[direction] : c->passed[direction];
}

static __always_inline void tell_closed(struct connection *c)
{
	union control_event event = {};

	if (!c->announced)
		return;
	begin(&event.header, EVENT_CLOSED);
	event.closed.connection = c->id;
	event.closed.ingress_bytes = bytes_in_all(c, DIRECTION_INGRESS);
	event.closed.egress_bytes = bytes_in_all(c, DIRECTION_EGRESS);
	event.closed.reset = c->reset;
	submit_control(&event, sizeof(event.closed));
	c->announced = 0;
	c->ended = 1;
}

static __always_inline void close_connection(struct sock *sk, struct connection *c)
{
	tell_closed(c);
	forget_connection(sk);
}

static __always_inline void tell_half_closed(__u64 connection, __u8 direction)
{
	union control_event event = {};

	begin(&event.header, EVENT_HALF_CLOSED);
	event.half_closed.connection = connection;
	event.half_closed.direction = direction;
	submit_control(&event, sizeof(event.half_closed));
}

static __always_inline void half_close(struct connection *c, __u8 direction)
{
	if (c->announced)
		tell_half_closed(c->id, direction);
}

/*
 * The kernel tells no end of a Unix stream. But who reads the end of one whose other end is closed can neither read nor
 * write any more, so both ends are done with; where the other end is only shut, that direction is.
 */
enum unix_end { UNIX_GOES_ON, UNIX_SHUT, UNIX_CLOSED };

/* `peer`: the other end, which this one still holds. */
static __always_inline enum unix_end end_of_unix(struct sock *sk, struct sock **peer)
{
	struct unix_sock *self = (void *)sk;

	*peer = BPF_CORE_READ(self, peer);
	if (!*peer || BPF_CORE_READ(sk, sk_receive_queue.qlen))
		return UNIX_GOES_ON;
	if (BPF_CORE_READ(*peer, __sk_common.skc_flags) >> bpf_core_enum_value(enum sock_flags, SOCK_DEAD) & 1)
		return UNIX_CLOSED;
	return BPF_CORE_READ(*peer, sk_shutdown) & SEND_SHUTDOWN ? UNIX_SHUT : UNIX_GOES_ON;
}
