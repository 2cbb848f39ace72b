/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Names of control groups, told once for each group before the first event of a process in it: who looks for the group of
 * a container that has ended finds no directory any more.
 */
#pragma once

/* The groups that are told; the one that was asked for the longest time ago makes room, and is told again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u8);
} groups_told SEC(".maps");

/* NULL: it is the root. */
static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	struct kernfs_node___old *old = (void *)node;

	if (bpf_core_field_exists(node->__parent))
		return BPF_CORE_READ(node, __parent);
	return BPF_CORE_READ(old, parent);
}

/* Of the group whose id cgroup_of() gives. */
static __always_inline struct kernfs_node *group_of(struct task_struct *task, __u64 id)
{
	struct cgroup_subsys_state *state = NULL;
	void *states = BPF_CORE_READ(task, cgroups);

	if (!cgroup_version1 || !(id & CGROUP_VERSION1))
		return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
	states += bpf_core_field_offset(struct css_set, subsys);
	bpf_probe_read_kernel(&state, sizeof(state), states + (cgroup_version1 - 1) * sizeof(state));
	return BPF_CORE_READ(state, cgroup, kn);
}

/* Whether user space knows the group now, or soon: what is told stands in the ring before the event. */
static __noinline bool tell_group(struct task_struct *task, __u64 id)
{
	struct kernfs_node *node, *above;
	struct event_group *event;
	__u32 level, cut = 0;
	__u8 told = 1;

	if (id == CGROUP_ROOT || bpf_map_lookup_elem(&groups_told, &id))
		return true;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	/* Nothing is lost: it is told with the group's next event. */
	if (!event)
		return false;
	__builtin_memset(&event->header, 0, sizeof(event->header));
	begin(&event->header, EVENT_GROUP);
	event->group = id;
	node = group_of(task, id);
	for (level = 0; level < GROUP_LEVELS; level++) {
		above = parent_of(node);
		if (!above)
			break;
		if (bpf_probe_read_kernel_str(event->names + level * GROUP_NAME, GROUP_NAME,
					      BPF_CORE_READ(node, name)) >= GROUP_NAME)
			cut = 1;
		node = above;
	}
	event->levels = level;
	event->cut = cut || parent_of(node);
	bpf_ringbuf_submit(event, wake_flag_in_ring(sizeof(*event)));
	bpf_map_update_elem(&groups_told, &id, &told, BPF_ANY);
	return true;
}
