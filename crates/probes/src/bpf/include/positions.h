/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Where a message is in its direction: by the kernel's own sequence numbers, so that bytes that no program here saw are a
 * gap of known size. `sk` may be only an address here: everything is read with probe reads, which few messages need.
 */
#pragma once

/* A difference of two sequence numbers above this is a step back. */
#define STEP_BACK 0xf0000000

/* What its program reads and writes is not what the numbers of this socket count: kTLS, sockmap. */
static __always_inline bool is_rewritten(struct sock *sk)
{
	struct inet_connection_sock *icsk = (void *)sk;

	return BPF_CORE_READ(sk, sk_user_data) || BPF_CORE_READ(icsk, icsk_ulp_ops);
}

/* A read that meets the FIN counts it among the bytes: nothing comes after a FIN, so only then the numbers are equal. */
static __always_inline bool is_over_fin(struct sock *sk, __u32 end)
{
	struct tcp_sock *tcp = (void *)sk;

	return BPF_CORE_READ(sk, __sk_common.skc_flags) >> bpf_core_enum_value(enum sock_flags, SOCK_DONE) & 1 &&
	       BPF_CORE_READ(tcp, rcv_nxt) == end;
}

/* The number behind the last byte that was read or written. */
static __always_inline __u32 end_now(struct sock *sk, __u8 direction)
{
	struct tcp_sock *tcp = (void *)sk;
	struct mptcp_sock *mptcp = (void *)sk;
	__u32 end;

	if (is_multipath(sk)) {
		if (direction == DIRECTION_EGRESS)
			return BPF_CORE_READ(mptcp, write_seq);
		return counts_consumed() ? BPF_CORE_READ(mptcp, bytes_consumed) : 0;
	}
	if (direction == DIRECTION_EGRESS)
		return BPF_CORE_READ(tcp, write_seq);
	end = BPF_CORE_READ(tcp, copied_seq);
	return is_over_fin(sk, end) ? end - 1 : end;
}

/* What is known of a socket of MPTCP: its times are those of its first subflow. */
static __noinline void read_multipath(struct sock *sk, struct facts *facts, __u32 direction)
{
	struct mptcp_sock *mptcp = (void *)sk;
	struct tcp_sock *first = (void *)BPF_CORE_READ(mptcp, first);

	if (first) {
		facts->srtt_us = BPF_CORE_READ(first, srtt_us) >> 3;
		facts->retransmits = BPF_CORE_READ(first, total_retrans);
	}
	facts->end = end_now(sk, direction);
	facts->counted = !counts_consumed();
}

static __always_inline bool has_unread_multipath(struct sock *sk)
{
	struct mptcp_sock *mptcp = (void *)sk;

	return !counts_consumed() || BPF_CORE_READ(mptcp, bytes_received) != BPF_CORE_READ(mptcp, bytes_consumed);
}

static __always_inline bool is_anchored(struct connection *c, __u8 direction)
{
	return c->anchored & (1 << direction);
}

static __always_inline void anchor(struct connection *c, __u8 direction, __u32 number)
{
	if (is_anchored(c, direction))
		return;
	/* A socket that connects again goes on counting. */
	c->start[direction & 1] = number - (__u32)c->position[direction & 1];
	c->anchored |= 1 << direction;
}

/* Position 0 is what comes next. */
static __always_inline void anchor_here(struct sock *sk, struct connection *c)
{
	anchor(c, DIRECTION_INGRESS, end_now(sk, DIRECTION_INGRESS));
	anchor(c, DIRECTION_EGRESS, end_now(sk, DIRECTION_EGRESS));
}

/* Position 0 is the connection's first byte, also where data came with a SYN. */
static __always_inline void anchor_at_first_byte(struct sock *sk, struct connection *c, bool connecting)
{
	struct tcp_sock *tcp = (void *)sk;

	if (is_multipath(sk)) {
		anchor(c, DIRECTION_INGRESS, 0);
		anchor(c, DIRECTION_EGRESS, end_now(sk, DIRECTION_EGRESS));
		return;
	}
	anchor(c, DIRECTION_INGRESS, BPF_CORE_READ(tcp, rcv_nxt) - (__u32)BPF_CORE_READ(tcp, bytes_received));
	/* Who connects has counted its SYN as acknowledged. */
	anchor(c, DIRECTION_EGRESS, BPF_CORE_READ(tcp, snd_una) - (__u32)BPF_CORE_READ(tcp, bytes_acked) + connecting);
}

/* The first message that is seen of an older connection begins at `number`. */
__noinline int anchor_older(struct connection *c, __u32 direction, __u32 number)
{
	if (!c)
		return 0;
	anchor(c, direction & 1, number);
	anchor_here((struct sock *)c->sk, c);
	return 0;
}

/*
 * A message that is not just behind the last one of its direction. Not static, so that the verifier walks it once and not
 * for each way that leads here; such a function cannot be given a socket.
 */
__noinline __u64 find_position(struct connection *c, __u32 end, __u32 length, __u32 direction)
{
	struct sock *sk;
	__u8 d = direction & 1;
	__u64 before;
	__u32 step;

	if (!c)
		return 0;
	sk = (struct sock *)c->sk;
	before = c->position[d];
	if (!c->counted && is_rewritten(sk))
		c->counted = 1;
	if (c->counted)
		return __sync_fetch_and_add(&c->position[d], length);
	if (!is_anchored(c, d))
		anchor(c, d, end - length);
	step = end - length - (c->start[d] + (__u32)before);
	if (d == DIRECTION_INGRESS ? step && is_over_fin(sk, end) && !is_multipath(sk) : step == 1 && c->fin_sent) {
		end--;
		step--;
	}
	if (step > STEP_BACK) {
		/* Two threads at once, and this one's message was taken for a gap. */
		if (c->gap_length[d] >= length) {
			before = c->gap_from[d];
			c->gap_from[d] += length;
			c->gap_length[d] -= length;
			return before;
		}
		/* It was under way when the numbers were first read. */
		c->start[d] = end - length - (__u32)before;
		step = 0;
	}
	if (step) {
		c->gap_from[d] = before;
		c->gap_length[d] = step;
	}
	c->position[d] = before + step + length;
	return before + step;
}

/* Moves a direction on to the end of a message, and returns the message's position and how many bytes before it nobody saw. */
static __always_inline __u64 take_position(struct connection *c, const struct facts *facts, __u32 length,
					   __u8 direction, __u32 *unseen)
{
	__u8 d = direction & 1;
	__u64 before = *(volatile __u64 *)&c->position[d], position;

	*unseen = 0;
	if (facts->counted)
		c->counted = 1;
	if (!c->counted && is_anchored(c, d) && facts->end - (c->start[d] + (__u32)before) == length &&
	    __sync_val_compare_and_swap(&c->position[d], before, before + length) == before)
		return before;
	position = find_position(c, facts->end, length, d);
	/* All sends are seen but by backend `syscall`: there a gap is a message that another thread has still to tell. */
	if (position > before && (d == DIRECTION_INGRESS || !use_storage))
		*unseen = position - before;
	return position;
}

/* Bytes that have passed, also those behind the last message. */
static __always_inline __u64 bytes_passed(struct sock *sk, struct connection *c, __u8 direction)
{
	__u64 position = c->position[direction];
	__u32 step;

	if (c->counted || !is_anchored(c, direction) || is_rewritten(sk))
		return position;
	step = end_now(sk, direction) - (c->start[direction] + (__u32)position);
	if (direction == DIRECTION_EGRESS && c->fin_sent)
		step--;
	return step > STEP_BACK ? position : position + step;
}

/* All bytes that came have been read; a FIN is not one of them. */
static __always_inline bool is_read_to_end(struct sock *sk)
{
	struct tcp_sock *tcp = (void *)sk;
	__u32 left = BPF_CORE_READ(tcp, rcv_nxt) - BPF_CORE_READ(tcp, copied_seq);

	return left <=
	       (BPF_CORE_READ(sk, __sk_common.skc_flags) >> bpf_core_enum_value(enum sock_flags, SOCK_DONE) & 1);
}

/* The last message has still to be told: its call is under way, or nobody sees it. */
static __always_inline bool is_untold(struct sock *sk, struct connection *c, __u8 direction)
{
	return bytes_passed(sk, c, direction) != c->position[direction];
}

/*
 * Neither direction goes on. What has come may still be read: then the last read is the end, and not the end of the
 * socket, which its program or a peer that does not answer may put off for minutes. Where the numbers are not those of the
 * program's bytes, what is left is not known.
 */
static __always_inline void end_when_read(struct sock *sk, struct connection *c)
{
	if (!c->announced || c->counted || is_rewritten(sk))
		return;
	c->over = !is_read_to_end(sk) || is_untold(sk, c, DIRECTION_INGRESS) || is_untold(sk, c, DIRECTION_EGRESS);
	if (!c->over)
		tell_closed(c);
}
