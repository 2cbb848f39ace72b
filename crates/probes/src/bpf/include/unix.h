/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Reads of a Unix stream by splice, which no program here sees, and without which all that is read later is in the wrong
 * place. Both ends are on this machine: what was sent, and neither was read nor waits, was read unseen.
 */
#pragma once

/* Of more messages that wait nothing is compared until there are fewer. */
#define WAITING_MAX 16

/* Bytes that wait at a Unix stream; more than can be sent where that is not known. */
static __always_inline __u64 waiting_at(struct sock *sk)
{
	__u64 queue = (__u64)sk + bpf_core_field_offset(struct sock, sk_receive_queue), bytes = 0;
	struct sk_buff *message = BPF_CORE_READ(sk, sk_receive_queue.next);
	__u32 i;

	for (i = 0; i < WAITING_MAX; i++) {
		struct unix_skb_parms *control = (void *)message + bpf_core_field_offset(struct sk_buff, cb);

		if ((__u64)message == queue)
			return bytes;
		bytes += BPF_CORE_READ(message, len) - BPF_CORE_READ(control, consumed);
		message = BPF_CORE_READ(message, next);
	}
	return (__u64)message == queue ? bytes : 1ULL << 62;
}

/* A message of a Unix stream has moved its direction on: how many bytes before it were read unseen. */
__noinline __u32 missed_of_unix(struct connection *c, __u32 direction, __u32 length)
{
	struct unix_sock *self;
	__u64 key, first = length, missed;
	__u64 *sent;

	if (!c)
		return 0;
	self = (void *)c->sk;
	key = direction == DIRECTION_EGRESS ? (__u64)BPF_CORE_READ(self, peer) : c->sk;
	if (direction == DIRECTION_EGRESS && c->position[DIRECTION_EGRESS] == length) {
		bpf_map_update_elem(&unix_sent, &key, &first, BPF_ANY);
		return 0;
	}
	sent = bpf_map_lookup_elem(&unix_sent, &key);
	if (!sent)
		return 0;
	if (direction == DIRECTION_EGRESS) {
		__sync_fetch_and_add(sent, length);
		return 0;
	}
	/* In this order: what is sent meanwhile waits, and is not taken for read. */
	missed = *(volatile __u64 *)sent;
	missed -= waiting_at((struct sock *)self) + c->position[DIRECTION_INGRESS];
	if (!missed || missed > STEP_BACK)
		return 0;
	__sync_fetch_and_add(&c->position[DIRECTION_INGRESS], missed);
	return missed;
}
