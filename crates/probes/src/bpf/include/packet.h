/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Reads a packet's bytes by hand, for kernels that have no dynptr for it: the linear part, then the fragments, whose pages
 * lie in the kernel's map of all memory in the order of their descriptions. Packets that are joined to this one behind its
 * fragments are not read.
 */
#pragma once

/* struct bio_vec, and struct skb_frag since kernel 6.9. */
struct fragment {
	__u64 page; /* with the lowest bit set it is no memory of this machine */
	__u32 length;
	__u32 offset;
};

#define FRAGMENTS_MAX 17
#define PAGE_BITS 12

/* Finds the parts of a packet; false where pages cannot be found. */
static __always_inline bool open_packet(struct walk *w, struct sk_buff *skb)
{
	struct skb_shared_info *shared;

	bpf_probe_read_kernel(&w->pages, sizeof(w->pages), (void *)page_offset_at);
	bpf_probe_read_kernel(&w->page_structs, sizeof(w->page_structs), (void *)vmemmap_at);
	if (!w->pages || !w->page_structs)
		return false;
	w->linear = (__u64)BPF_CORE_READ(skb, data);
	w->linear_length = BPF_CORE_READ(skb, len) - BPF_CORE_READ(skb, data_len);
	shared = (void *)BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, end);
	w->count = BPF_CORE_READ(shared, nr_frags);
	w->fragments = (__u64)shared + bpf_core_field_offset(struct skb_shared_info, frags);
	return true;
}

/* Goes to the next part or copies of this one; 1 when there is nothing more to do. Of its own, so that it is verified once. */
__noinline int packet_step(struct received *r)
{
	struct walk *w;
	__u64 address, n, to;
	__u32 length, skip;

	if (!r)
		return 1;
	w = &r->walk;
	if (!w->left || w->part > w->count)
		return 1;
	if (w->part) {
		struct fragment f;

		if (bpf_probe_read_kernel(&f, sizeof(f), (void *)(w->fragments + (w->part - 1) * sizeof(f))) ||
		    f.page & 1)
			return 1;
		address = w->pages + ((f.page - w->page_structs) / bpf_core_type_size(struct page) << PAGE_BITS) +
			  f.offset;
		length = f.length;
	} else {
		address = w->linear;
		length = w->linear_length;
	}
	skip = w->at - w->begins;
	if (skip >= length) {
		w->begins += length;
		w->part++;
		return 0;
	}
	n = length - skip < w->left ? length - skip : w->left;
	to = w->to;
	BOUND(n, PIECE_MAX);
	BOUND(to, TAIL_MAX + RECEIVED_MAX);
	if (bpf_probe_read_kernel((void *)r + __builtin_offsetof(struct received, last) + to, n,
				  (void *)(address + skip)))
		return 1;
	w->at += n;
	w->left -= n;
	w->to = to + n;
	return 0;
}

/* Copies from a place in the packet to one behind `last`; says whether all is there. */
static __always_inline bool copy_packet(struct received *r, __u32 from, __u32 length, __u32 to)
{
	struct walk *w = &r->walk;

	w->part = 0;
	w->begins = 0;
	w->at = from;
	w->left = length;
	w->to = to;
	for (__u32 i = 0; i < 2 * FRAGMENTS_MAX + RECEIVED_MAX / PIECE_MAX + 4; i++)
		if (packet_step(r))
			break;
	return !w->left;
}
