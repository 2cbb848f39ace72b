/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The one handler behind every backend: decides about a message, and sends it. */
#pragma once

/* Copied of each message until user space knows the protocol. */
#define UNDECIDED_BYTES 4096
/* Most of a read that is copied whole because it takes the last that had come. */
#define SHORT_READ 8192

static __always_inline bool is_ours(const struct facts *facts, __u16 type)
{
	if (facts->family == AF_INET || facts->family == AF_INET6)
		return facts->protocol == IPPROTO_TCP || (has_multipath() && facts->protocol == IPPROTO_MPTCP);
	return unix_sockets && facts->family == AF_UNIX && type == SOCK_STREAM;
}

#define UNKNOWN_PERIOD 1000000000

/*
 * Each process has a budget of its own, anew each second: user space may decide late, miss that a program began, or have
 * decided what this table has forgotten since, so that it is asked each time.
 */
static __always_inline bool within_unknown_budget(struct process_rule *rule, __u32 tgid)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 now = bpf_ktime_get_ns();

	if (now - rule->since >= UNKNOWN_PERIOD) {
		rule->since = now;
		rule->seen = 0;
		if (tgid_of(task) == tgid)
			ask_about(task, tgid, now, false);
	}
	if (rule->seen >= unknown_budget)
		return false;
	__sync_fetch_and_add(&rule->seen, 1);
	return true;
}

/*
 * A verdict is remembered in the connection, with the process and the epoch that it is about in one word: several
 * processes on several CPUs may use one connection at once. That of a process with goroutines is not: says as well where
 * the process keeps their numbers, if it has any.
 */
__noinline __u32 judge_process(struct connection *c, __u32 tgid, struct goroutine_layout *layout)
{
	__u32 which = EPOCH_PROCESSES;
	__u32 *raised = bpf_map_lookup_elem(&epoch, &which);
	struct process_rule *rule;
	__u64 key, judged = 0;

	if (!raised || !layout)
		return OUTCOME_STATE_FULL;
	/* The epoch first: a decision that comes after the look-up raises it. */
	key = (__u64)tgid << 32 | (__u32)(*(volatile __u32 *)raised + *(volatile __u32 *)&processes_forgotten) << 2;
	barrier();
	if (c)
		judged = *(volatile __u64 *)&c->judged;
	if (judged == (key | VERDICT_ALLOW))
		return 0;
	if (judged == (key | VERDICT_DENY))
		return OUTCOME_PROCESS_DENIED;
	rule = bpf_map_lookup_elem(&processes, &tgid);
	if (!rule) {
		struct process_rule fresh = {};

		if (!bpf_map_update_elem(&processes, &tgid, &fresh, BPF_NOEXIST))
			COUNT(processes_made);
		rule = bpf_map_lookup_elem(&processes, &tgid);
		if (!rule)
			return OUTCOME_STATE_FULL;
	}
	*layout = rule->goroutines;
	if (rule->verdict == VERDICT_ALLOW) {
		if (c && !layout->goid)
			*(volatile __u64 *)&c->judged = key | VERDICT_ALLOW;
		return 0;
	}
	if (rule->verdict == VERDICT_DENY) {
		if (c)
			*(volatile __u64 *)&c->judged = key | VERDICT_DENY;
		return OUTCOME_PROCESS_DENIED;
	}
	if (!capture_unknown)
		return OUTCOME_PROCESS_UNKNOWN;
	return within_unknown_budget(rule, tgid) ? 0 : OUTCOME_UNKNOWN_BUDGET;
}

/*
 * Tokens that a connection takes at once, as powers of two: the look-up of the bucket costs more than all else here, and
 * what a short connection does not use is lost to its container. So it takes 1, then 2, up to this.
 */
#define TOKENS_AT_ONCE_LOG2 4

/* Tokens are always taken, but asked for only when the ring fills: a flooding container loses its own events. */
__noinline bool within_rate(struct connection *c, __u64 cgroup, __u64 now)
{
	__u32 left;
	struct bucket *bucket;
	__u64 tokens, taken;

	if (!rate_per_second || !c)
		return true;
	left = *(volatile __u32 *)&c->tokens;
	if (left) {
		c->tokens = left - 1;
		return true;
	}
	bucket = bpf_map_lookup_elem(&buckets, &cgroup);
	if (!bucket) {
		struct bucket fresh = { .tokens = rate_burst, .filled = now };

		bpf_map_update_elem(&buckets, &cgroup, &fresh, BPF_ANY);
		return true;
	}
	tokens = bucket->tokens;
	if (now > bucket->filled + 1000000) {
		__u64 elapsed = now - bucket->filled, granted;

		if (elapsed > 1000000000) {
			elapsed = 1000000000;
			bucket->filled = now - elapsed;
		}
		granted = elapsed * rate_per_second / 1000000000;
		/* Time that is too short for a whole token stays on the account. */
		if (granted) {
			bucket->filled += granted * 1000000000 / rate_per_second;
			tokens += granted;
			if (tokens > rate_burst)
				tokens = rate_burst;
		}
	}
	taken = 1 << (c->grants & 7);
	if (c->grants < TOKENS_AT_ONCE_LOG2)
		c->grants++;
	if (taken > tokens)
		taken = tokens;
	bucket->tokens = tokens - taken;
	if (taken)
		c->tokens = taken - 1;
	return tokens || bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) <= ring_bytes / 4;
}

static __always_inline void take_decision(struct connection *c)
{
	__u32 which = EPOCH_CONNECTIONS;
	__u32 *now = bpf_map_lookup_elem(&epoch, &which);
	struct decision *decision;

	if (!now || *now == c->epoch)
		return;
	c->epoch = *now;
	decision = bpf_map_lookup_elem(&decisions, &c->id);
	if (!decision)
		return;
	c->policy = decision->policy;
	c->policy_bytes = decision->copy_bytes;
	if (c->policy == POLICY_FORGOTTEN) {
		/* User space knows neither the connection nor its earlier bytes: announce it again. */
		c->policy = POLICY_UNDECIDED;
		c->origin = ORIGIN_PRE_EXISTING;
		c->announced = 0;
	}
	if (!bpf_map_delete_elem(&decisions, &c->id))
		COUNT(decisions_taken);
}

/* How much to copy of each message. */
static __always_inline __u32 policy_limit(struct connection *c)
{
	__u32 limit = copy_bytes;

	if (c->policy == POLICY_UNDECIDED)
		limit = UNDECIDED_BYTES;
	else if (c->policy == POLICY_FULL)
		limit = c->policy_bytes;
	return limit > COPY_MAX ? COPY_MAX : limit;
}

/* How much to copy of this one: that is used up when 16 times the limit were copied without a change of direction. */
static __always_inline __u32 copy_limit(struct connection *c, __u8 direction, __u32 length, __u32 limit)
{
	__u32 copied;

	if (c->run_direction != direction) {
		c->run_direction = direction;
		c->run_bytes = 0;
	}
	copied = c->run_bytes;
	if (copied >= 16 * limit)
		return 0;
	if (length < limit)
		limit = length;
	c->run_bytes = copied + limit;
	return limit;
}

/* When the first of the bytes just read came. */
static __always_inline __u64 take_arrival(struct connection *c)
{
	__u64 arrived = c->arrival_unknown ? 0 : c->arrived;

	/*
	 * First forget, then look: data that comes in between is taken for unread data of unknown arrival, never
	 * for data that came later than it did. So the backends look for unread data after this.
	 */
	c->arrived = 0;
	c->unread_before = c->arrival_unknown;
	barrier();
	return arrived;
}

/*
 * When the current thread began to send what it has sent now. Where the start of sends is seen, its number is exact even
 * where other threads have sent since: `end` becomes that of its own last byte.
 */
__noinline __u64 take_start(struct connection *c, __u32 tid, __u32 length, __u32 *end)
{
	struct send *send;
	__u64 started;

	if (!c || !end)
		return 0;
	send = &c->sends[0];
	if (send->tid != tid || !send->started)
		send = &c->sends[1];
	started = send->started;
	if (send->tid != tid || !started)
		return 0;
	send->started = 0;
	if (!send->left)
		return started;
	if (*end - (send->number + length) < STEP_BACK)
		*end = send->number + length;
	return *end - length == send->first ? started : 0;
}

/* The first message of a Unix stream: it is the first of all if the beginning was seen. */
static __noinline struct connection *find_unix(struct sock *sk)
{
	__u64 key = (__u64)sk, peer = 0, role = ROLE_UNKNOWN;
	struct birth *birth = bpf_map_lookup_elem(&births, &key);
	struct connection *c;

	if (birth) {
		peer = birth->peer;
		role = birth->role;
		/* Before anything can fail: the next message is not the first. */
		bpf_map_delete_elem(&births, &key);
	}
	c = make_connection(sk, birth ? ORIGIN_OBSERVED : ORIGIN_PRE_EXISTING);
	if (!c)
		return NULL;
	c->ports_unknown = 1;
	if (peer == (__u64)BPF_CORE_READ((struct unix_sock *)sk, peer))
		c->role = role;
	return c;
}

/* Its messages are counted from the first on, also those that are not told. */
static __always_inline bool begins_unix(struct sock *sk, const struct facts *facts)
{
	__u64 key = (__u64)sk;

	return facts->family == AF_UNIX && bpf_map_lookup_elem(&births, &key);
}

/* A connection that is known only by its first message. */
static __noinline struct connection *find_older(struct sock *sk, __u32 direction, __u32 number)
{
	/* Data that came with a SYN may be read before the connection is established. */
	bool opening = BPF_CORE_READ(sk, __sk_common.skc_state) == STATE_SYN_RECV;
	struct connection *c = make_connection(sk, opening ? ORIGIN_OBSERVED : ORIGIN_PRE_EXISTING);
	struct listener listener = {};

	if (!c)
		return NULL;
	c->ports_unknown = 1;
	listener.netns = read_netns(sk);
	listener.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	if (opening || bpf_map_lookup_elem(&listeners, &listener))
		c->role = ROLE_SERVER;
	if (opening) {
		anchor_at_first_byte(sk, c, false);
	} else {
		anchor_older(c, direction, number);
	}
	return c;
}

/*
 * A function of its own: before kernel 6.13 what is on the stack where a message is delivered counts for all functions that copy
 * it, too.
 */
static __noinline bool socket_wanted(struct sock *sk, __u32 family)
{
	struct tuple tuple = {};

	/* A Unix stream has no port. */
	if (family != AF_UNIX)
		read_tuple(sk, &tuple);
	return port_wanted(tuple.local_port, tuple.peer_port);
}

static __always_inline __u32 deliver(__u32 slot, struct task_struct *task, struct sock *sk, struct connection *c,
				     const struct facts *facts, const struct source *source, __u32 length,
				     __u8 direction, __u64 time)
{
	/* From the task itself: the calls that tell the same cost as much as all else that is read here. */
	__u32 tgid = tgid_of(task), tid = tid_of(task), reason, limit;
	struct goroutine_layout layout = {};
	__u64 position;
	__u32 unseen;
	bool unread;
	struct scratch *s;

	if (is_outside(tgid))
		reason = OUTCOME_PID_NAMESPACE;
	else
		reason = tgid == self_tgid ? OUTCOME_SELF : judge_process(c, tgid, &layout);
	if (reason == OUTCOME_SELF && facts->family != AF_UNIX && (!c || !c->ignored)) {
		remember_own(sk);
		if (c)
			c->ignored = OUTCOME_SELF;
	}
	if (!c) {
		if (reason && !begins_unix(sk, facts))
			return reason;
		c = facts->family == AF_UNIX ? find_unix(sk) : find_older(sk, direction, facts->end - length);
		if (!c)
			return OUTCOME_STATE_FULL;
		if (facts->family == AF_UNIX && is_unix_peer_self(sk))
			c->ignored = OUTCOME_SELF;
	}
	if (own_older && c->origin == ORIGIN_PRE_EXISTING && c->own_asked < OWN_ASKED_MAX && !reason && !c->ignored &&
	    facts->family != AF_UNIX) {
		c->own_asked++;
		if (is_own_older(sk))
			c->ignored = OUTCOME_SELF;
	}
	if (facts->inode && c->inode != facts->inode)
		c->inode = facts->inode;
	position = take_position(c, facts, length, direction, &unseen);
	/* Backend `syscall` sees splice. */
	if (use_storage && facts->family == AF_UNIX && c->origin == ORIGIN_OBSERVED) {
		unseen = missed_of_unix(c, direction, length);
		position += unseen;
	}
	if (any_ports && c->ports_unknown) {
		c->ports_unknown = 0;
		if (!socket_wanted(sk, facts->family))
			c->ignored = OUTCOME_PORT_FILTERED;
	}
	if (c->ignored)
		return c->ignored;
	if (reason)
		return reason;
	take_decision(c);
	if (c->policy == POLICY_IGNORE)
		return OUTCOME_CONNECTION_IGNORED;

	s = bpf_map_lookup_elem(&scratches, &slot);
	if (!s)
		return OUTCOME_STATE_FULL;
	begin(&s->message.header, EVENT_MESSAGE);
	s->message.cgroup = cgroup_of(task);
	if (!within_rate(c, s->message.cgroup, s->message.header.time))
		return OUTCOME_RATE_LIMITED;
	if (c->group != s->message.cgroup && tell_group(task, s->message.cgroup))
		c->group = s->message.cgroup;
	if (!c->announced) {
		if (!(facts->family == AF_UNIX ? announce_unix(sk, c, direction, position) :
						 announce_tcp(sk, c, direction, position)))
			return OUTCOME_RING_FULL;
		c->announced = 1;
		begin(&s->message.header, EVENT_MESSAGE);
	}
	s->message.connection = c->id;
	s->message.position = position;
	s->message.started = direction == DIRECTION_EGRESS ? time : 0;
	s->message.arrived = direction == DIRECTION_INGRESS ? time : 0;
	s->message.process_started = task->group_leader->start_boottime;
	s->message.goroutine = current_goroutine(task, &layout);
	s->message.tgid = tgid;
	s->message.tid = tid;
	s->message.length = length;
	s->message.srtt_us = facts->srtt_us;
	s->message.retransmits = facts->retransmits;
	s->message.payload_length = 0;
	s->message.tail_length = 0;
	s->message.direction = direction;
	s->message.unseen = unseen;
	s->message.flags = c->counted ? MESSAGE_COUNTED : 0;
	s->length = length;
	s->limit = policy_limit(c);
	if (c->run_direction == direction && position)
		c->follow[direction & 1].in_pieces = 1;
	unread = direction == DIRECTION_INGRESS && facts->family != AF_UNIX && c->arrival_unknown;
	/* A read that leaves bytes behind may have cut a head in two. */
	s->follow_short = c->policy == POLICY_UNDECIDED || c->follow[direction & 1].in_pieces || unread;
	limit = copy_limit(c, direction, length, s->limit);
	/*
	 * Where the next head is not known: a read that takes the last bytes that had come ends what was sent at once, and
	 * often begins what is sent next.
	 */
	if (direction == DIRECTION_INGRESS && facts->family != AF_UNIX && c->unread_before && !unread &&
	    length <= SHORT_READ && limit < length && c->follow[direction & 1].next <= position)
		limit = length;
	if (source->kind == SOURCE_NONE)
		return submit_piece(s);
	begin_reading(&s->reader, source, length);
	return submit_message(s, &c->follow[direction & 1], limit);
}

static __always_inline void count_loss(void)
{
	__u64 cgroup = cgroup_of((void *)bpf_get_current_task_btf()), one = 1;
	__u64 *lost = bpf_map_lookup_elem(&cgroup_losses, &cgroup);

	if (!lost) {
		if (!bpf_map_update_elem(&cgroup_losses, &cgroup, &one, BPF_NOEXIST))
			return;
		lost = bpf_map_lookup_elem(&cgroup_losses, &cgroup);
	}
	if (lost)
		__sync_fetch_and_add(lost, 1);
}

/* Every message that comes here is counted as seen and as exactly one outcome. */
static __always_inline void handle(__u32 slot, struct task_struct *task, struct sock *sk, struct connection *c,
				   const struct facts *facts, const struct source *source, __u32 length, __u8 direction,
				   __u64 time)
{
	struct counters *own = own_counters();
	__u32 outcome;

	if (!own)
		return;
	__sync_fetch_and_add(&own->seen, 1);
	outcome = deliver(slot, task, sk, c, facts, source, length, direction, time);
	BOUND(outcome, OUTCOMES - 1);
	__sync_fetch_and_add(&own->outcomes[outcome], 1);
	/* After the outcome: who reads in the other order never finds more of them than were lost. */
	if (outcome == OUTCOME_RING_FULL || outcome == OUTCOME_RATE_LIMITED)
		count_loss();
}
